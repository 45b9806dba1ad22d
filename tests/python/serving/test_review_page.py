"""The review page, over HTTP: what it shows, what its form does, and whose form it takes."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.settings import Settings
from serving.review import DEAL_COLUMNS, QueuedPair, Turn
from serving.review_page import LABELS, marked, render, rows_of
from tests.python.homes import PROJECT
from tests.python.serving.review_queue import DEAL, TYPES, queued, write_queue
from tests.python.serving.rows import delivered
from tests.python.serving.serve import KEY, Server, serve
from tests.python.waiting import wait_until


class Page(HTMLParser):
    """A page as a browser without scripts knows it.

    fields: of its form. links: by their words. text: what it says. elements: the tags' names.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.marks: list[str] = []
        self.text = ""
        self.elements: set[str] = set()
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.add(tag)
        if tag == "input":
            self.fields[given["name"]] = given["value"]
        if tag not in ("input", "meta", "col"):
            self._open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, given = self._open[-1] if self._open else ("", {})
        if tag in ("style", "script"):
            return
        self.text += data
        if tag == "a":
            self.links[data.strip()] = given["href"]
        if tag == "mark":
            self.marks.append(data)


@pytest.fixture(scope="module")
def reviewed(trained: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose queue each test writes."""
    settings = Settings(tmp_path_factory.mktemp("reviewed") / "home", PROJECT)
    shutil.copytree(trained.home, settings.home, symlinks=True)
    with serve(settings) as running:
        yield running


FIRST = itertools.count(1, 100)


@pytest.fixture
def first(reviewed: Server) -> int:
    """The rank of the first of four pairs that no other test is about."""
    rank = next(FIRST)
    write_queue(reviewed.settings.review_queue_path, [queued(rank + n) for n in range(4)])
    return rank


class Person:
    """Somebody at a browser, who logged in."""

    def __init__(self, server: Server, name: str = "ann") -> None:
        self._options: dict[str, Any] = {"auth": (name, KEY), "follow_redirects": True}
        self._url = server.url

    def get(self, address: str = "/review") -> httpx.Response:
        return httpx.get(urljoin(self._url + "/review", address), **self._options)

    def see(self, address: str = "/review", status: int = 200) -> Page:
        answer = self.get(address)
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    def press(self, page: Page, verdict: str) -> Page:
        answer = self.send({**page.fields, "is_duplicate": verdict})
        assert answer.status_code == 200 and answer.history[0].status_code == 303, answer.text
        return Page(answer.text)

    def send(self, form: dict[str, str] | bytes) -> httpx.Response:
        body: dict[str, Any] = {"content" if isinstance(form, bytes) else "data": form}
        headers = {"Sec-Fetch-Site": "same-origin"}
        return httpx.post(self._url + "/review", headers=headers, **body, **self._options)


def labels(server: Server) -> list[tuple[str, bool, str, str]]:
    """Pair, verdict, hand and source of what reached the warehouse's files, the oldest first."""
    directory = server.settings.delivered_verdicts_dir
    rows = delivered(directory).to_pylist() if list(directory.rglob("*.parquet")) else []
    return [
        (
            f"{row['deal_id_a']}~{row['deal_id_b']}",
            row["is_duplicate"],
            row["labelled_by"],
            row["label_source"],
        )
        for row in sorted(rows, key=lambda row: row["labelled_at"])
    ]


def test_a_queue_is_judged_from_end_to_end(reviewed: Server, first: int) -> None:
    ann = Person(reviewed, "Ann Lee")
    page = ann.see()
    assert "0 of 4 judged" in page.text and "You are Ann Lee" in page.text
    assert page.fields["pair_id"] == f"a{first}~b{first}"
    page = ann.press(page, "yes")
    assert "1 of 4 judged" in page.text and "are one deal" in page.text
    page = ann.press(page, "no")
    assert "are two deals" in page.text
    # One is skipped, the next one judged; then the skipped one is offered.
    page = ann.see(page.links["Not sure, skip"])
    assert page.fields["pair_id"] == f"a{first + 3}~b{first + 3}" and "2 of 4" in page.text
    page = ann.press(page, "no")
    assert "1 pair was skipped" in page.text and not page.fields
    page = ann.press(ann.see(page.links["Look again"]), "yes")
    assert "All 4 pairs are judged" in page.text
    expected = [(0, True), (1, False), (3, False), (2, True)]
    told = [(f"a{first + n}~b{first + n}", said, "Ann Lee", "review") for n, said in expected]
    wait_until(lambda: [row for row in labels(reviewed) if row in told] == told, 30)


def test_a_verdict_can_be_changed(reviewed: Server, first: int) -> None:
    ann = Person(reviewed)
    page = ann.press(ann.press(ann.see(), "yes"), "yes")
    page = ann.see(page.links["Change"])
    assert page.fields["pair_id"] == f"a{first + 1}~b{first + 1}"
    assert "Judged before: one deal" in page.text
    page = ann.press(page, "no")
    # It goes on where it was.
    assert "are two deals" in page.text and page.fields["pair_id"] == f"a{first + 2}~b{first + 2}"
    pair = f"a{first + 1}~b{first + 1}"
    wait_until(lambda: [r[1] for r in labels(reviewed) if r[0] == pair] == [True, False], 30)


def test_what_was_said_before_can_be_said_again(reviewed: Server, first: int) -> None:
    """After another's verdict, it is a new one; sent twice, it is not."""
    ann, bob, pair = Person(reviewed), Person(reviewed, "bob"), f"a{first}~b{first}"
    again = f"/review?pair={pair}"
    for person, said in ((ann, "yes"), (bob, "no"), (ann, "yes"), (bob, "no")):
        page = person.see(again)
        for _ in range(2):
            words = f"are {'one deal' if said == 'yes' else 'two deals'}"
            assert words in person.press(page, said).text
    told = [(True, "ann"), (False, "bob")] * 2
    wait_until(lambda: [r[1:3] for r in labels(reviewed) if r[0] == pair] == told, 30)


def test_what_is_sent_twice_is_one_verdict(reviewed: Server, first: int) -> None:
    ann = Person(reviewed)
    page = ann.see()
    for _ in range(2):
        assert "1 of 4 judged" in ann.press(page, "yes").text
    assert "2 of 4 judged" in ann.press(ann.see(), "yes").text
    pairs = [f"a{first + n}~b{first + n}" for n in range(2)]
    wait_until(lambda: [r[0] for r in labels(reviewed) if r[0] in pairs] == pairs, 30)


def test_verdicts_of_programs_count_too(reviewed: Server, first: int) -> None:
    verdict = {"deal_id_a": f"b{first}", "deal_id_b": f"a{first}", "is_duplicate": True}
    answer = reviewed.post("/v1/verdicts", {**verdict, "labelled_by": "crm"})
    assert answer.status_code == 201
    page = Person(reviewed).see()
    assert "1 of 4" in page.text and page.fields["pair_id"] == f"a{first + 1}~b{first + 1}"


def test_two_people_see_two_pairs(reviewed: Server, first: int) -> None:
    ranks = [Person(reviewed, name).see().fields["after"] for name in ("ann", "bob", "ann")]
    assert ranks == [str(first), str(first + 1), str(first)]


def test_without_a_name_the_keys_name_stands_for_it(reviewed: Server, first: int) -> None:
    page = Person(reviewed, "").see()
    assert "You are first" in page.text


def test_both_deals_stand_side_by_side(reviewed: Server, first: int) -> None:
    a = {"deal_name": "Acme - 50 seats", "amount": 12000.0, "owner": None, "stage": None}
    b = {
        "deal_name": "ACME 60 seats",
        "amount": 12600.5,
        "stage": None,
        "close_date": date(2026, 5, 1),
        "updated_at": None,
    }
    write_queue(reviewed.settings.review_queue_path, [queued(first, a=a, b=b)])
    page = Person(reviewed).see()
    assert page.marks == ["50", "60", "12,000 EUR", "12,600.50 EUR", "2026-04-30", "2026-05-01"]
    assert "5 % apart" in page.text and "1 day apart" in page.text
    assert page.text.count("not given") == 2 and "Stage" not in page.text


def test_the_model_gives_the_reasons_of_a_match(reviewed: Server, first: int) -> None:
    raw = {DEAL_COLUMNS[name]: value for name, value in DEAL.items()}
    times = {name: str(raw[name]) for name in ("created_at", "updated_at", "close_date")}
    deals = [{**raw, **times, "deal_id": f"{side}{first}"} for side in "ab"]
    answer = reviewed.post("/v1/match", {"deals": deals, "floor": 0}).json()["results"][0]
    (match,) = [m for m in answer["matches"] if m["candidate_deal_id"] == f"b{first}"]
    page = Person(reviewed).see()
    assert match["reasons"]
    for reason in match["reasons"]:
        assert reason["text"] in page.text
    assert "For one deal, more than in other pairs" in page.text
    assert "88 %" in page.text and "from 62 % on" in page.text
    # Deals with nothing in common are no candidates of each other.
    nothing = dict.fromkeys(DEAL)
    write_queue(reviewed.settings.review_queue_path, [queued(first, b=nothing)])
    page = Person(reviewed).see()
    assert "For one deal" not in page.text and "For two deals" not in page.text


def test_texts_of_deals_stay_texts(reviewed: Server, first: int) -> None:
    nasty = {"deal_name": "<script>alert(1)</script>", "owner": '"><img src=x onerror=alert(1)>'}
    row = queued(first, a=nasty, b={**nasty, "stage": "</td>{{ 7*7 }}"})
    ids = {"deal_id_a": '"><b>a', "deal_id_b": "b'&amp;"}
    write_queue(reviewed.settings.review_queue_path, [{**row, **ids}])
    ann = Person(reviewed, "<i>ann</i>")
    page = ann.see()
    assert not page.elements & {"img", "b", "i"}
    for text in (*nasty.values(), "</td>{{ 7*7 }}", "You are <i>ann</i>"):
        assert text in page.text
    assert {name: page.fields[name] for name in ids} == ids
    assert "All 1 pairs" not in page.text and "are one deal" in ann.press(page, "yes").text


def test_the_headers_allow_the_form_and_the_script_alone(reviewed: Server, first: int) -> None:
    headers = Person(reviewed).get().headers
    policy = headers.get_list("content-security-policy")
    assert len(policy) == 1 and "default-src 'none'" in policy[0]
    assert "script-src 'sha256-" in policy[0] and "form-action 'self'" in policy[0]
    assert headers.get_list("referrer-policy") == ["same-origin"]
    assert headers["cache-control"] == "no-store" and headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "OWN"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "OWN"}, 303),
        ({}, 303),
    ],
)
def test_forms_of_other_sites_are_refused(
    reviewed: Server, first: int, headers: dict[str, str], status: int
) -> None:
    form = {**Person(reviewed).see().fields, "is_duplicate": "yes"}
    told = {name: value.replace("OWN", reviewed.url) for name, value in headers.items()}
    answer = httpx.post(reviewed.url + "/review", data=form, headers=told, auth=("ann", KEY))
    assert answer.status_code == status
    judged = "1 of 4 judged" in Person(reviewed).see().text
    assert judged == (status == 303)
    if status == 403:
        assert "sent by another site" in Page(answer.text).text


def test_only_who_has_a_key_gets_in(reviewed: Server, first: int) -> None:
    form = {"deal_id_a": "a", "deal_id_b": "b", "is_duplicate": "yes"}
    for auth in (None, ("ann", "wrong"), ("ann", "")):
        for answer in (
            httpx.get(reviewed.url + "/review", auth=auth),
            httpx.post(reviewed.url + "/review", auth=auth, data=form),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith('Basic realm="onedeal"')


@pytest.mark.parametrize("name", ["Z" * 201, "a\tb"])
def test_who_has_no_name_to_judge_by_is_told_before(
    reviewed: Server, first: int, name: str
) -> None:
    assert "Log in with another" in Person(reviewed, name).see(status=422).text


@pytest.mark.parametrize(
    "form, status, words",
    [
        ({"is_duplicate": "maybe"}, 422, "is_duplicate: it is 'maybe'; it must be 'yes' or 'no'"),
        ({"deal_id_a": ""}, 422, "deal_id_a: it must not be empty"),
        ({"deal_id_b": "x" * 201}, 422, "deal_id_b: it must have at most 200 characters"),
        ({"deal_id_b": "SAME"}, 422, "must be two deals"),
        ({"after": "-1"}, 422, "after: it is '-1'; it must be at least 0"),
        ({"seen": "x" * 65}, 422, "seen: it must have at most 64 characters"),
        ({"owner": "ann"}, 422, "owner: there is no such field"),
        ({f"more_{n}": "x" for n in range(20)}, 400, "no form of this page"),
    ],
)
def test_a_broken_form_is_told_what_is_wrong(
    reviewed: Server, first: int, form: dict[str, str], status: int, words: str
) -> None:
    ann = Person(reviewed)
    fields = {**ann.see().fields, "is_duplicate": "yes", **form}
    if fields["deal_id_b"] == "SAME":
        fields["deal_id_b"] = fields["deal_id_a"]
    answer = ann.send(fields)
    page = Page(answer.text)
    assert answer.status_code == status and words in page.text
    assert "0 of 4 judged" in ann.see(page.links["Back to the queue"]).text


def test_no_form_at_all(reviewed: Server, first: int) -> None:
    for body in (b"", b"{}", b"\xff=1", b"deal_id_a=%ff"):
        answer = Person(reviewed).send(body)
        assert answer.status_code in (400, 422) and "text/html" in answer.headers["content-type"]


def test_places_that_are_none(reviewed: Server, first: int) -> None:
    ann = Person(reviewed)
    assert "whole number" in ann.see("/review?after=x", status=422).text
    # What has left the queue is passed over.
    page = ann.see("/review?pair=gone&last=gone")
    assert page.fields["pair_id"] == f"a{first}~b{first}"


def test_without_a_queue_it_says_where_one_comes_from(reviewed: Server, first: int) -> None:
    ann, path = Person(reviewed), reviewed.settings.review_queue_path
    write_queue(path, [])
    assert "Nothing to judge" in ann.see().text
    path.write_bytes(b"no Parquet")
    assert "can't be read" in ann.see(status=503).text
    assert "can't be read" in reviewed.wait_for("review_queue")["error"]
    path.unlink()
    assert "onedeal retrain" in ann.see().text


def test_it_shows_pairs_without_a_bundle(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    settings.home.mkdir()
    write_queue(settings.review_queue_path, [queued(1)])
    with serve(settings, ready=False) as running:
        page = Person(running).see()
        assert page.fields["pair_id"] == "a1~b1" and "For one deal" not in page.text
        assert "All 1 pairs are judged" in Person(running).press(page, "yes").text


# --- whatever stands in a deal -------------------------------------------------------------------


def test_every_field_of_the_queue_has_a_row() -> None:
    # The currency stands with the amount.
    assert set(LABELS) == {*DEAL_COLUMNS.values()} - {"currency"}


@given(st.text(), st.text())
def test_marked_words_are_those_that_the_other_lacks(text: str, other: str) -> None:
    pieces = marked(text, other)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(not is_marked for _, is_marked in marked(text, text))
    words = set(re.findall(r"\w+", other.casefold()))
    for piece, is_marked in pieces:
        if not is_marked:
            assert set(re.findall(r"\w+", piece.casefold())) <= words or not words


TEXTS = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=30)


@given(st.fixed_dictionaries({name: TEXTS for name, kind in TYPES.items() if kind == "string"}))
def test_any_text_of_a_deal_is_shown_as_it_is(texts: dict[str, str | None]) -> None:
    raw = {DEAL_COLUMNS[name]: value for name, value in {**DEAL, **texts}.items()}
    deals = ({**raw, "deal_id": "a"}, {**raw, "deal_id": "b", "owner": "someone else"})
    pair = QueuedPair(1, "random", "a~b", 0.5, 0.5, deals)
    shown = "".join(
        "".join(text for text, _ in side) for row in rows_of(pair) for side in row.sides if side
    )
    page = Page(render(Turn(pair, total=1), reviewer="ann"))
    for value in texts.values():
        if value:
            assert value in shown and value in page.text
    assert page.elements <= PLAIN


PLAIN = {
    *("html", "head", "meta", "title", "style", "body", "header", "span", "progress", "main"),
    *("h1", "div", "table", "colgroup", "col", "thead", "tbody", "tr", "th", "td", "mark"),
    *("form", "input", "button", "kbd", "a", "details", "summary", "p", "script"),
}
"""What the page is made of."""
