"""The review page in Chromium: that its form, its keys and its script work together there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from flows.settings import Settings
from tests.python.homes import PROJECT
from tests.python.serving.review_queue import queued, write_queue
from tests.python.serving.serve import KEY, Server, serve
from tests.python.waiting import wait_until

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = list(filter(None, map(shutil.which, NAMES)))
    assert found, f"there is no browser; install one of {', '.join(NAMES)}"
    with sync_playwright() as playwright:
        # A container's root may not have a sandbox. The pages are our own.
        opened = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A service without a bundle, and with five pairs to judge."""
    settings = Settings(tmp_path / "home", PROJECT)
    settings.home.mkdir()
    write_queue(settings.review_queue_path, [queued(rank) for rank in range(1, 6)])
    with serve(settings, ready=False) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page as Ann opens it; what the browser complains about is a failure."""
    context = browser.new_context(http_credentials={"username": "Ann", "password": KEY})
    complaints: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(server.url + "/review")
    yield opened
    context.close()
    assert complaints == []


def wait_until_keys_count(page: Page) -> None:
    wait_until(lambda: bool(page.evaluate("performance.now() > 400")), 10)


def press(page: Page, key: str) -> None:
    """Press a key when it counts, and wait for the next page."""
    wait_until_keys_count(page)
    with page.expect_navigation():
        page.keyboard.press(key)


def test_pairs_are_judged_by_keys(page: Page) -> None:
    for key, said in (("y", "are one deal"), ("n", "are two deals")):
        press(page, key)
        expect(page.get_by_role("status")).to_contain_text(said)
    expect(page.locator("header")).to_contain_text("2 of 5 judged")
    press(page, "s")
    expect(page.locator("thead")).to_contain_text("Deal a4")
    press(page, "Y")
    press(page, "u")
    expect(page.locator("main")).to_contain_text("Judged before: one deal")
    press(page, "n")
    expect(page.get_by_role("status")).to_contain_text("are two deals")
    expect(page.locator("header")).to_contain_text("3 of 5 judged")


def test_a_key_pressed_twice_judges_one_pair(page: Page) -> None:
    wait_until_keys_count(page)
    with page.expect_navigation():
        page.keyboard.press("y")
    page.keyboard.press("y")
    page.keyboard.press("Control+y")
    expect(page.locator("header")).to_contain_text("1 of 5 judged")
    page.reload()
    expect(page.locator("header")).to_contain_text("1 of 5 judged")


def test_pairs_are_judged_by_clicks(page: Page) -> None:
    page.get_by_role("button", name=re.compile("Two deals")).click()
    expect(page.get_by_role("status")).to_contain_text("are two deals")
    page.get_by_role("link", name=re.compile("skip")).click()
    expect(page.locator("thead")).to_contain_text("Deal a3")
    # What the model says is not in sight until one asks.
    expect(page.get_by_text("from 62 % on")).to_be_hidden()
    page.get_by_text("What the model says").click()
    expect(page.get_by_text("from 62 % on")).to_be_visible()


def test_it_fits_a_telephone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    # The buttons stay in sight, however long the deals are.
    expect(page.get_by_role("button", name=re.compile("One deal"))).to_be_in_viewport()


def test_without_scripts_the_form_works(browser: Browser, server: Server) -> None:
    context = browser.new_context(
        http_credentials={"username": "Ann", "password": KEY}, java_script_enabled=False
    )
    page = context.new_page()
    page.goto(server.url + "/review")
    page.get_by_role("button", name=re.compile("One deal")).click()
    expect(page.get_by_role("status")).to_contain_text("are one deal")
    context.close()


def test_another_sites_form_judges_nothing(browser: Browser, server: Server) -> None:
    """The browser sends the password along, as it does with every request to that address."""
    context = browser.new_context(http_credentials={"username": "Ann", "password": KEY})
    page = context.new_page()
    page.goto(server.url + "/review")
    page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action='{server.url}/review'>"
            "<input name=deal_id_a value=a1><input name=deal_id_b value=b1>"
            "<input name=after value=1><button name=is_duplicate value=yes>Win a prize</button>",
        ),
    )
    page.goto("http://elsewhere.example/")
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("sent by another site")
    page.goto(server.url + "/review")
    expect(page.locator("header")).to_contain_text("0 of 5 judged")
    context.close()
