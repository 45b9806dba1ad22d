"""The requests of the review page: one to see a pair of the review queue, one to judge it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from flows.contract import MAX_IDENTIFIER
from serving.access import basic_name
from serving.answers import Reason
from serving.guard import log
from serving.problems import Problem
from serving.review import QueueUnreadable, ReviewDesk, Turn
from serving.review_page import ADDRESS, HEADERS, render
from serving.schemas import ReviewForm, ReviewQuery, VerdictRequest, is_identifier, read
from serving.service import Service

MOST_FIELDS = 10
"""A form of this page has six."""


class ReviewRoutes:
    """What the page is asked, and what its form tells."""

    def __init__(self, service: Service, desk: ReviewDesk) -> None:
        self._service = service
        self._desk = desk

    async def show(self, request: Request) -> Response:
        """The page with the next pair, or the one asked for."""
        reviewer = ""
        try:
            reviewer = _reviewer(request)
            asked = read(ReviewQuery, json.dumps(dict(request.query_params)).encode())
            turn = await self._service.on_disk(
                lambda: self._desk.turn(
                    reviewer, after=asked.after, pair_id=asked.pair, last_pair_id=asked.last
                )
            )
        except Problem as error:
            return _refused(reviewer, error)
        except QueueUnreadable as error:
            log("review_queue", level=logging.ERROR, error=str(error))
            return _refused(reviewer, Problem(503, str(error)))
        reasons: tuple[Reason, ...] = ()
        if turn.pair is not None:
            reasons = await self._service.explain(*turn.pair.deals)
        page = render(
            turn,
            reviewer=reviewer,
            after=asked.after,
            reasons=reasons,
        )
        return HTMLResponse(page, headers=HEADERS)

    async def judge(self, request: Request) -> Response:
        """Keep a verdict, and go on to the next pair."""
        reviewer = ""
        try:
            reviewer = _reviewer(request)
            _refuse_other_sites(request.headers)
            form = _form(await request.body())
            verdict = {
                "deal_id_a": form.deal_id_a,
                "deal_id_b": form.deal_id_b,
                "is_duplicate": form.is_duplicate == "yes",
                "labelled_by": reviewer,
                # Sent twice it is one verdict; said again after another's, it is a new one.
                "request_id": f"review {form.seen}",
            }
            await self._service.verdict(read(VerdictRequest, json.dumps(verdict).encode()))
        except Problem as error:
            return _refused(reviewer, error)
        # The answer to a form is another address: to load that again judges nothing.
        then = urlencode({"after": form.after, "last": form.pair_id})
        return RedirectResponse(f"{ADDRESS}?{then}", status_code=303, headers=HEADERS)


def _reviewer(request: Request) -> str:
    """The name that somebody logged in with; without one, that of the key.

    Raises Problem (422) where it can't stand beside a verdict.
    """
    client: str = request.state.client
    name = basic_name(request.headers.get("authorization", "")) or client
    if not is_identifier(name):
        raise Problem(
            422,
            f"A name has at most {MAX_IDENTIFIER} characters, and no control characters. Log in "
            "with another.",
        )
    return name


def _refuse_other_sites(headers: Mapping[str, str]) -> None:
    """Refuse a form that another site's page sent: a browser adds the password by itself.

    As Go's http.CrossOriginProtection: by Sec-Fetch-Site, which browsers send over HTTPS and to
    localhost; else by Origin, which they send with every form; a request with neither is no
    browser's. Raises Problem (403).
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or urlsplit(origin).netloc == headers.get("host")
    if not is_ours:
        raise Problem(403, "This form was sent by another site's page, so nothing was kept.")


def _form(body: bytes) -> ReviewForm:
    """The form in a body. Raises Problem (400, 422) that says what is wrong with it."""
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:
        raise Problem(400, "The body is no form of this page.") from None
    texts = {name: "\n".join(values) for name, values in fields.items()}
    return read(ReviewForm, json.dumps(texts).encode())


def _refused(reviewer: str, problem: Problem) -> Response:
    page = render(Turn(), reviewer=reviewer, problem=problem.message)
    return HTMLResponse(page, status_code=problem.status, headers=HEADERS)
