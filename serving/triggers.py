"""Push messages of Pub/Sub: each starts a run of `retrain`, once a message and business date."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from serving.guard import log
from serving.problems import Problem
from serving.retrain_runs import RECORDED, Run, Runs
from serving.schemas import PushRequest
from serving.starters import Starter

KIND = "retrain"
"""The attribute `kind` of messages that start a run, where they have one; others are left."""
MOST_AHEAD = timedelta(days=1)
"""How far ahead a business date may be: where it is tomorrow by the publisher's clock."""


class Triggers:
    """Takes push messages, and sees that each business date is trained once."""

    def __init__(self, runs: Runs, starter: Starter) -> None:
        self._runs = runs
        self._starter = starter

    def take(self, push: PushRequest) -> tuple[Run, bool] | None:
        """Record the message's run and have it started; None for a message of another kind.

        Raises Problem (422, 503) where the message is not to be acknowledged.
        """
        message = push.message
        if message.attributes.get("kind", KIND) != KIND:
            return None
        day = business_date(message.attributes.get("business_date"), message.publishTime)
        run, is_new = self._runs.record(message.messageId, day)
        if run.state == RECORDED:
            # A message may come again because the start failed after the run was recorded.
            self._starter.start(run)
        log("trigger", run=run.run, business_date=run.business_date, new=is_new)
        return run, is_new

    def resume(self) -> None:
        """Start what an earlier process recorded and did not see the end of."""
        for run in self._runs.unfinished():
            try:
                self._starter.start(run)
            except Problem as problem:
                log("trigger_failed", run=run.run, status=problem.status)

    def close(self) -> None:
        """Let go of the runs, which go on."""
        self._starter.close()
        self._runs.close()


def business_date(told: str | None, published: str) -> str:
    """The day that a message is for: the attribute `business_date`, else when it was published.

    In UTC, as `YYYY-MM-DD`. Raises Problem (422) for what is no date, or for an attribute that is a
    day to come: that day's own message would start nothing then.
    """
    text = told if told is not None else published[:10]
    today = datetime.now(UTC).date()
    if not text:
        return today.isoformat()
    name = "attributes.business_date" if told is not None else "publishTime"
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError:
        raise Problem(422, f"message.{name} must be a date, such as 2026-08-01.") from None
    if told is not None and day > today + MOST_AHEAD:
        raise Problem(422, f"message.{name} must not be more than a day ahead.")
    return day.isoformat()
