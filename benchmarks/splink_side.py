"""The same deals with Splink 5, run by `against_splink` in an environment of its own.

    python -m benchmarks.splink_side JOB

JOB is a JSON file that `against_splink.splink` writes. Set up as its guides advise: comparisons
with graded levels, fields that depend on each other in one comparison, term frequencies where
values are equal by chance, u by random sampling, m by expectation-maximisation in several passes or
from the labelled duplicates, clusters by connected components. It gets the finished blocking keys,
capped and refined as ours are, so that it compares the same pairs, and the threshold that is best
on the truth. Of a dozen sets of comparisons tried on 10,000 deals, this one did best; one
comparison a field, with company, domain, e-mail, phone and owner apart, had an F1 lower by 0.15.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import splink.comparison_level_library as levels
import splink.comparison_library as comparisons
from splink import DuckDBAPI, Linker, SettingsCreator, block_on
from splink.blocking_rule_library import CustomRule

from benchmarks.quality import Counts, Truth

WINDOW_DAYS = 200
U_PAIRS = 2e6
# Pairs below this weight are dropped, as they are in no cluster at any threshold worth having.
LEAST_WEIGHT = -10


def graded(column: str, *conditions: str, frequencies: bool = False) -> Any:
    """A comparison: equal, then one level for each condition, then the rest."""
    return comparisons.CustomComparison(
        output_column_name=column,
        comparison_levels=[
            levels.NullLevel(column),
            levels.ExactMatchLevel(column, term_frequency_adjustments=frequencies),
            *(levels.CustomLevel(condition) for condition in conditions),
            levels.ElseLevel(),
        ],
    )


def words_shared(column: str, *shares: float) -> list[str]:
    """Conditions: so large a share of the shorter side's words stands on the other side."""
    found = f"len(list_filter({column}_l, lambda w: list_contains({column}_r, w)))"
    shorter = f"least(len({column}_l), len({column}_r))"
    return [f"{found} >= {share} * {shorter}" for share in shares]


def within(column: str, *days: int) -> list[str]:
    """Conditions: at most so many days apart."""
    return [f"abs({column}_l - {column}_r) <= {count}" for count in days]


def ratio_of(column: str, *shares: float) -> list[str]:
    """Conditions: the smaller amount is at least that share of the larger."""
    small, large = f"least({column}_l, {column}_r)", f"greatest({column}_l, {column}_r)"
    return [f"{small} >= {share} * {large}" for share in shares]


def customer() -> Any:
    """One comparison of all that names the customer: apart, it would count the same thing twice."""
    fields = ("company_key", "domain_root", "contact_email")
    missing = " and ".join(f"({field}_l is null or {field}_r is null)" for field in fields)
    return comparisons.CustomComparison(
        output_column_name="customer",
        comparison_levels=[
            levels.CustomLevel(missing).configure(is_null_level=True),
            levels.CustomLevel("contact_email_l = contact_email_r or phone_l = phone_r"),
            levels.CustomLevel("domain_root_l = domain_root_r"),
            levels.ExactMatchLevel("company_key", term_frequency_adjustments=True),
            levels.CustomLevel("jaro_winkler_similarity(company_key_l, company_key_r) >= 0.88"),
            levels.ElseLevel(),
        ],
    )


def compared() -> list[Any]:
    """The comparisons."""
    return [
        customer(),
        graded("name_words", *words_shared("name_words", 1, 0.75, 0.5, 0.25)),
        graded("name_numbers", *words_shared("name_numbers", 1)),
        graded(
            "amount",
            *ratio_of("amount", 0.95),
            "abs(least(amount_l, amount_r) * 10 - greatest(amount_l, amount_r)) < 0.01",
            "currency_l <> currency_r",
            *ratio_of("amount", 0.8),
            frequencies=True,
        ),
        graded("close_day", *within("close_day", 7, 31, 120)),
        graded("created_day", *within("created_day", 3, 30, 120)),
        graded("description_words", *words_shared("description_words", 0.8, 0.6, 0.4)),
    ]


def prepare(connection: duckdb.DuckDBPyConnection, job: dict[str, Any]) -> list[Any]:
    """Clean the raw rows into the table `deals`, with the keys, and return the blocking rules."""
    # The name that the cleaning's SQL has for it.
    connection.execute("create type float64 as double")
    connection.execute(
        "create temp view incoming_deals as select *, timestamp '2000-01-01' as _ingested_at "
        f"from read_parquet('{job['deals']}')"
    )
    rules = [
        row[0]
        for row in connection.execute(
            f"select distinct rule from read_parquet('{job['keys']}') order by rule"
        ).fetchall()
    ]
    # A rule may give a deal several keys; then the column is a list.
    several = {
        row[0]
        for row in connection.execute(
            f"select distinct rule from read_parquet('{job['keys']}') "
            "group by rule, deal_id having count(*) > 1"
        ).fetchall()
    }
    key_columns = ", ".join(
        f"{'list' if rule in several else 'any_value'}(pairing_key) "
        f"filter (rule = '{rule}') as key_{rule}"
        for rule in rules
    )
    connection.execute(
        f"""
        create table deals as
        with cleaned as ({job["clean_sql"]}),
        keys as (
            select deal_id, {key_columns} from read_parquet('{job["keys"]}') group by deal_id
        )
        select
            cleaned.deal_id as unique_id,
            keys.* exclude (deal_id),
            list_sort(list_distinct(string_split(name_text, ' '))) as name_words,
            list_sort(list_distinct(regexp_extract_all(name_text, '[0-9]+'))) as name_numbers,
            list_sort(list_distinct(string_split(description_text, ' '))) as description_words,
            company_key, domain_root, contact_email, phone, amount, currency,
            datediff('day', date '1970-01-01', close_date) as close_day,
            datediff('day', date '1970-01-01', created_on) as created_day
        from cleaned left join keys using (deal_id)
        """
    )
    near = f"coalesce(abs(l.created_day - r.created_day) <= {WINDOW_DAYS}, true)"
    return [
        CustomRule(
            f"l.key_{rule} = r.key_{rule} and {near}",
            arrays_to_explode=[f"key_{rule}"] if rule in several else None,
        )
        for rule in rules
    ]


def train(linker: Any, connection: duckdb.DuckDBPyConnection, job: dict[str, Any]) -> None:
    """Estimate the prior, u, and m by expectation-maximisation or from labels."""
    training = linker.training
    training.estimate_probability_two_random_records_match(
        [block_on("amount", "close_day", "company_key"), block_on("contact_email", "amount")],
        recall=0.5,
    )
    training.estimate_u_using_random_sampling(max_pairs=U_PAIRS, seed=1)
    if job["labels"]:
        connection.execute(
            "create table duplicate_labels as "
            "select deal_id_a as unique_id_l, deal_id_b as unique_id_r "
            f"from read_parquet('{job['labels']}') where is_duplicate"
        )
        labels = linker.table_management.register_table("duplicate_labels", "labels")
        training.estimate_m_from_pairwise_labels(labels)
        return
    for rule in (
        block_on("amount", "close_day"),
        block_on("company_key", "name_words"),
        block_on("contact_email", "amount"),
    ):
        training.estimate_parameters_using_expectation_maximisation(rule)


def best_clusters(linker: Any, truth: Truth, predicted: Any, weight: float) -> tuple[float, Counts]:
    """The weight at which clusters meet the truth best, searched upwards and downwards."""
    found: dict[float, Counts] = {}

    def at(threshold: float) -> float:
        if threshold not in found:
            clusters = cluster(linker, predicted, threshold)
            found[threshold] = truth.of_groups(
                f"(select unique_id as deal_id, cluster_id as group_id "
                f"from {clusters.physical_name})"
            )
            clusters.drop_table_from_database_and_remove_from_cache()
        return found[threshold].f1_score

    for step in (4.0, 1.0):
        centre = max(found, key=at) if found else weight
        for direction in (step, -step):
            threshold = centre
            while at(threshold + direction) > at(threshold):
                threshold += direction
    best = max(found, key=at)
    return best, found[best]


def cluster(linker: Any, predicted: Any, weight: float) -> Any:
    """Splink's clusters: the connected components of the pairs from that weight on."""
    return linker.clustering.cluster_pairwise_predictions_at_threshold(
        predicted, threshold_match_weight=weight
    )


def main() -> None:
    """Do one job and write what it took as JSON."""
    logging.disable(logging.WARNING)
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    stages: dict[str, float] = {}
    cpu_seconds = 0.0
    clock, cpu_clock = time.monotonic(), time.process_time()

    def lap(stage: str | None) -> None:
        """End a stage; None for what does not count."""
        nonlocal clock, cpu_clock, cpu_seconds
        now, cpu_now = time.monotonic(), time.process_time()
        if stage is not None:
            stages[stage] = now - clock
            cpu_seconds += cpu_now - cpu_clock
        clock, cpu_clock = now, cpu_now

    with duckdb.connect() as connection:
        rules = prepare(connection, job)
        lap("clean")
        database = DuckDBAPI(connection)
        linker = Linker(
            database.register("deals"),
            SettingsCreator(
                link_type="dedupe_only",
                comparisons=compared(),
                blocking_rules_to_generate_predictions=rules,
                retain_matching_columns=False,
            ),
            log_level=None,
        )
        train(linker, connection, job)
        lap("training")
        predicted = linker.inference.predict(threshold_match_weight=LEAST_WEIGHT)
        lap("blocking and scoring")
        truth = Truth(connection, Path(job["truth"]), job["leave_out"] and Path(job["leave_out"]))
        pairs = (
            "(select least(unique_id_l, unique_id_r) as deal_id_a, "
            "greatest(unique_id_l, unique_id_r) as deal_id_b, match_weight as score "
            f"from {predicted.physical_name})"
        )
        weight = truth.best_threshold(pairs)
        counts = truth.of_pairs(pairs, weight)
        group_weight, groups = best_clusters(linker, truth, predicted, weight)
        lap(None)
        cluster(linker, predicted, group_weight)
        lap("groups")
    answer = {
        "stages": stages,
        "cpu_seconds": cpu_seconds,
        "pair_f1": counts.f1_score,
        "pair_weight": weight,
        "group_f1": groups.f1_score,
        "group_precision": groups.precision,
        "group_recall": groups.recall,
        "group_weight": group_weight,
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
