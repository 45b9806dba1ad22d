"""Three days of generated deals: the whole loop, told in plain words.

Day 1 brings the history and a few verdicts, and the first champion. Day 2 brings new deals and many
verdicts, and a candidate against the champion. Day 3 brings nothing, so nothing is trained.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import ledger
from flows.dbt import OnNode
from flows.errors import OnedealError, RunInProgress
from flows.ingest import ingest_deals, ingest_labels
from flows.lock import can_write, describe, holder, is_locked
from flows.retrain import RetrainResult, retrain
from flows.score import read_scores
from flows.settings import Settings
from flows.steps import StepRunner, call
from flows.warehouse import MODEL_SCHEMA, Warehouse, open_warehouse

if TYPE_CHECKING:
    from flows.demo_deals import DemoDay, GeneratedDeals

DEALS = 12_000
SEED = 7
# Few on the first day, so that there is something left to learn on the second.
VERDICTS = (260, 4_000)
DEMO_KEY = "demo"
"""Of a service that listens on this machine alone."""
DAY_TITLES = (
    "Day 1: two CRM exports and the first verdicts",
    "Day 2: new deals, and many more verdicts",
    "Day 3: nothing new",
)


@dataclass(frozen=True)
class DemoResult:
    """How each day's retraining ended, and how well the last champion's groups meet the truth.

    precision, recall, f1_score: over pairs of deals that stand in one group.
    rule_f1_score: the same of the rule "same company name and same amount".
    """

    home: Path
    days: tuple[RetrainResult, ...]
    precision: float
    recall: float
    f1_score: float
    rule_f1_score: float


def demo(
    settings: Settings,
    *,
    say: Callable[[str], None],
    run: StepRunner = call,
    on_node: OnNode | None = None,
    deals: int = DEALS,
) -> DemoResult:
    """Run the loop on generated deals in `demo/` under the home, which is made anew.

    say: is told what happened, a line at a time. Raises RunInProgress when another demo is at work,
    OnedealError for a target other than `local`.
    """
    if settings.target != "local":
        raise OnedealError(
            f"The demo works on the target 'local', not on {settings.target!r}: it makes up deals, "
            "and those belong in no warehouse people read. Run `onedeal demo` without --target."
        )
    # What it makes up is for no service to fetch.
    settings = replace(settings, home=settings.home / "demo", artifact_store="")
    with _demo_lock(settings):
        return _three_days(settings, say, run, on_node, deals)


@contextmanager
def _demo_lock(settings: Settings) -> Iterator[None]:
    """Keep other demos out for the length of the block: each makes the home anew.

    The lock lies beside the home, where it outlives it. Raises RunInProgress, also where another
    command is at work in the home, and SettingsError where nothing can be written beside it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(settings.home.with_suffix(".lock"), timeout=0)
    try:
        with can_write(settings.home.parent):
            settings.home.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout as error:
        raise RunInProgress(
            f"Another `onedeal demo` is at work on {settings.home}. Wait until it has ended, stop "
            "it, or set ONEDEAL_HOME to another directory."
        ) from error
    try:
        if is_locked(settings):
            raise RunInProgress(
                f"{describe(holder(settings))} is at work on {settings.home}. Wait until it has "
                "ended, or stop it."
            )
        yield
    finally:
        lock.release()


def _three_days(
    settings: Settings,
    say: Callable[[str], None],
    run: StepRunner,
    on_node: OnNode | None,
    deals: int,
) -> DemoResult:
    shutil.rmtree(settings.home, ignore_errors=True)
    files = settings.home / "files"
    files.mkdir(parents=True)

    from flows.demo_deals import generate_days

    say(f"{deals:,} made-up deals of two CRMs, about 15 % of them keyed twice. All of it stands in")
    say(f"{settings.home}")
    generated, days = run("generate", generate_days, deals, SEED, verdict_counts=VERDICTS)
    results = []
    for number, (title, day) in enumerate(zip(DAY_TITLES, days, strict=True), start=1):
        say("")
        say(title)
        for line in run("ingest", _land, settings, files, number, day):
            say(f"  {line}")
        result = retrain(settings, run=run, on_node=on_node)
        results.append(result)
        for line in _told(result):
            say(f"  {line}")

    with open_warehouse(settings) as warehouse:
        measured = _measure(warehouse, generated)
        for line in _found(warehouse, measured):
            say(line)
        deal = _a_deal(warehouse)
    for line in _where_to_look(settings, deal):
        say(line)
    return DemoResult(settings.home, tuple(results), *measured)


def _land(settings: Settings, files: Path, number: int, day: DemoDay) -> list[str]:
    """Write the day's deals as the two CRMs export them and its verdicts; ingest all of it."""
    import pyarrow.csv

    from flows.demo_deals import write_hubspot_export, write_salesforce_export

    if not len(day.deals) and not len(day.verdicts):
        return ["No file arrived."]
    exports = [files / f"day{number}_hubspot.csv", files / f"day{number}_salesforce.csv"]
    write_hubspot_export(day.deals, exports[0])
    write_salesforce_export(day.deals, exports[1])
    labels = files / f"day{number}_verdicts.csv"
    pyarrow.csv.write_csv(day.verdicts, labels)
    ingested = [*ingest_deals(settings, exports).files, *ingest_labels(settings, [labels]).files]
    return [f"{file} (mapping {file.mapping})" for file in ingested]


def _told(result: RetrainResult) -> list[str]:
    """A day's retraining in words."""
    if result.candidate is None or result.decision is None:
        return ["Nothing was trained:", *(f"  {reason}" for reason in result.reasons)]
    words = [
        f"Of the models that were trained, {result.candidate.model_version} was judged:",
        *(f"  {reason}" for reason in result.reasons),
    ]
    ending = "It is the champion now." if result.decision.promote else "The champion stays."
    return [*words, ending, f"Report: {result.report}"]


def _measure(warehouse: Warehouse, generated: GeneratedDeals) -> tuple[float, float, float, float]:
    """Precision, recall and F1 of the groups against the truth, and F1 of the naive rule."""
    with warehouse.transaction():
        warehouse.execute("create schema if not exists demo")
        warehouse.execute(
            "create or replace table demo.truth (deal_id varchar, true_deal_id varchar)"
        )
        truth = generated.truth.select(["deal_id", "true_deal_id"])
        warehouse.append("demo.truth", truth.to_batches())

    def pairs(deals: str, *keys: str) -> int:
        """Pairs of deals that agree in all keys."""
        columns = ", ".join(keys)
        sizes = f"select count(*) as n from {deals} group by {columns}"
        return int(
            warehouse.query(f"select coalesce(sum(n * (n - 1) / 2), 0) as pairs from ({sizes})")[0][
                "pairs"
            ]
        )

    groups = f"{MODEL_SCHEMA}.duplicate_groups inner join demo.truth using (deal_id)"
    alike = (
        f"{MODEL_SCHEMA}.stg_crm__deals inner join demo.truth using (deal_id) "
        "where company_name is not null and amount is not null"
    )
    true_pairs = pairs("demo.truth", "true_deal_id")
    grouped, right = pairs(groups, "group_id"), pairs(groups, "group_id", "true_deal_id")
    by_rule = pairs(alike, "company_name", "amount")
    right_by_rule = pairs(alike, "company_name", "amount", "true_deal_id")
    return (
        right / max(grouped, 1),
        right / max(true_pairs, 1),
        2 * right / max(grouped + true_pairs, 1),
        2 * right_by_rule / max(by_rule + true_pairs, 1),
    )


def _found(warehouse: Warehouse, measured: tuple[float, float, float, float]) -> list[str]:
    """What the champion found, with an example, and how right that is."""
    champion = ledger.champion(ledger.read(warehouse))
    if champion is None:
        return ["", "No model was good enough, so no deal was called a duplicate."]
    scores = read_scores(warehouse, champion.model_version)
    twice = warehouse.query(
        "select currency, sum(amount_counted_twice) as amount "
        f"from {MODEL_SCHEMA}.duplicate_groups where amount_counted_twice > 0 "
        "group by currency order by count(*) desc, currency"
    )
    amounts = ", ".join(f"{row['currency']} {row['amount']:,.0f}" for row in twice)
    example = warehouse.query(
        f"select * from {MODEL_SCHEMA}.duplicate_groups where group_size <= 3 and group_id in "
        f"(select group_id from {MODEL_SCHEMA}.duplicate_groups where amount_counted_twice > 0) "
        "qualify group_id = first_value(group_id) over (order by group_size desc, group_id) "
        "order by is_survivor desc, deal_id"
    )
    precision, recall, f1_score, rule_f1_score = measured
    lines = [
        "",
        "What the champion found",
        f"  {scores.pairs:,} pairs of deals were compared, {scores.duplicates:,} of them called "
        "duplicates.",
        f"  {scores.deals_in_groups:,} deals stand in {scores.groups:,} groups; the pipeline "
        f"counts twice: {amounts or 'nothing'}.",
        "  One of the groups:",
    ]
    for row in example:
        amount = "no amount" if row["amount"] is None else f"{row['amount']:,.0f}"
        fate = "counted twice" if row["amount_counted_twice"] else "a duplicate"
        if row["is_survivor"]:
            fate = f"keep: {row['survivor_reason']}"
        lines.append(
            f"    {row['deal_id']}  {row['deal_name']} | {row['company_name'] or '-'} | "
            f"{amount} {row['currency'] or ''} | {row['source']}  ({fate})"
        )
    return [
        *lines,
        f"  The deals are made up, so the truth is known: {precision:.0%} of the pairs in a group "
        "are right,",
        f"  {recall:.0%} of the duplicates were found (F1 {f1_score:.2f}). The rule "
        f'"same company, same amount" has F1 {rule_f1_score:.2f}.',
    ]


def _a_deal(warehouse: Warehouse) -> dict[str, Any]:
    """What a deal's twin may look like when it comes in."""
    deals = warehouse.query(
        "select deal_name, company_name, company_domain, contact_name, contact_email, owner, "
        "cast(amount as double) as amount, currency, cast(close_date as varchar) as close_date "
        "from onedeal_raw.raw_deals where company_name is not null and contact_email is not null "
        "and amount is not null order by deal_id, _ingested_at limit 1"
    )
    return {name: value for name, value in deals[0].items() if value is not None}


def _where_to_look(settings: Settings, deal: dict[str, Any]) -> list[str]:
    home = shlex.quote(str(settings.home))
    return [
        "",
        "Where to look next (commands after `source .venv/bin/activate`)",
        f"  The last run's report, in a browser:  {settings.reports_dir / 'latest.html'}",
        f"  The state of things:                  ONEDEAL_HOME={home} onedeal status",
        f"  The tables, with DuckDB:              {settings.warehouse_path}",
        "      onedeal.duplicate_groups, onedeal.review_queue, onedeal.model_evaluation",
        "  Your own deals:                       onedeal ingest deals FILE",
        "",
        "Judge the pairs of the review queue, or ask about one deal: start the service,",
        f"  ONEDEAL_HOME={home} ONEDEAL_API_KEY={DEMO_KEY} onedeal serve",
        f"open http://127.0.0.1:8080/review (any name, password {DEMO_KEY}), and from another",
        "terminal ask it about one of the deals, as if it were new",
        f"  curl -s http://127.0.0.1:8080/v1/match -H 'Authorization: Bearer {DEMO_KEY}' "
        f"-d {shlex.quote(json.dumps({'deal': deal}, ensure_ascii=False))}",
    ]
