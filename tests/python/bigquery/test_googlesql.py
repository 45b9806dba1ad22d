"""Google's analyser refuses what BigQuery refuses: each fault beside its faultless twin."""

from __future__ import annotations

import datetime
import decimal

import pytest

from tests.bigquery.googlesql import (
    Analyser,
    Catalogue,
    EvaluationError,
    Model,
    Name,
    Result,
    Table,
    evaluate_query,
)

DEALS = Name("shop", "crm", "deals")
PAIRS = Name("shop", "crm", "pairs")
MODEL = Name("shop", "crm", "model")
TREES = Name("shop", "crm", "trees")
FEATURES = {"name_similarity": "FLOAT64", "amount_missing": "INT64"}


def _doubled(times: int) -> str:
    """A query that reads a table twice as often with each of its common table expressions."""
    tables = ["deals_0 as (select deal_id from crm.deals)"]
    for number in range(times):
        one = f"select * from deals_{number}"
        tables.append(f"deals_{number + 1} as ({one} union all {one})")
    return f"with {', '.join(tables)} select * from deals_{times}"


# What it is, the SQL that is accepted, its faulty twin, and a part of Google's message.
TWINS = [
    (
        "unknown column",
        "select deal_name from crm.deals",
        "select dealname from crm.deals",
        "Unrecognized name: dealname",
    ),
    (
        "argument type",
        "select lower(deal_name) as name from crm.deals",
        "select lower(amount) as name from crm.deals",
        "No matching signature for function LOWER",
    ),
    (
        "missing GROUP BY",
        "select owner, count(*) as deals from crm.deals group by owner",
        "select owner, count(*) as deals from crm.deals",
        "neither grouped nor aggregated",
    ),
    (
        "DuckDB's function",
        "select edit_distance(deal_name, owner) as distance from crm.deals",
        "select levenshtein(deal_name, owner) as distance from crm.deals",
        "Function not found: levenshtein",
    ),
    (
        "lateral alias",
        "select amount * 2 as double_amount, amount * 4 as fourfold from crm.deals",
        "select amount * 2 as double_amount, double_amount * 2 as fourfold from crm.deals",
        "Unrecognized name: double_amount",
    ),
    (
        "DuckDB's array type",
        "select cast(null as array<int64>) as codes",
        "select cast(null as int64[]) as codes",
        "Syntax error",
    ),
    (
        "reserved word as an alias",
        "select later.deal_id from crm.deals as later",
        "select following.deal_id from crm.deals as following",
        "Unexpected keyword FOLLOWING",
    ),
    (
        "WHERE without FROM",
        "select 1 as deal_id from (select 1) where false",
        "select 1 as deal_id where false",
        "Query without FROM clause cannot have a WHERE clause",
    ),
    (
        "unknown table",
        "select deal_id from `shop`.`crm`.`deals`",
        "select deal_id from `shop`.`crm`.`deal`",
        "Table not found",
    ),
    (
        "function of GoogleSQL that BigQuery lacks",
        "select array_length([1, 2]) as length",
        "select array_max([1, 2]) as greatest",
        "Function not found: ARRAY_MAX",
    ),
    (
        "comparison of a text with a number",
        "select deal_id from crm.deals where amount = 1",
        "select deal_id from crm.deals where deal_name = 1",
        "No matching signature for operator =",
    ),
    (
        "doubled name in a result",
        "select deal_id, owner from crm.deals",
        "select deal_id, deal_id from crm.deals",
        "Duplicate column names in the result",
    ),
    (
        "outer join without an equality",
        "select d.deal_id from crm.deals as d full join crm.pairs as p on d.deal_id = p.deal_id_a",
        "select d.deal_id from crm.deals as d full join crm.pairs as p on d.deal_id < p.deal_id_a",
        "FULL OUTER JOIN cannot be used without a condition that is an equality",
    ),
    (
        "subquery in a join's condition",
        "select d.deal_id from crm.deals as d inner join crm.pairs as p on d.deal_id = p.deal_id_a",
        "select d.deal_id from crm.deals as d inner join crm.pairs as p "
        "on d.deal_id in (select deal_id_b from crm.pairs)",
        "Unsupported subquery with table in join predicate",
    ),
    (
        "correlated subquery with a limit",
        "select exists(select 1 from crm.pairs as p where p.deal_id_a = d.deal_id) as x "
        "from crm.deals as d",
        "select (select deal_id_b from crm.pairs as p where p.deal_id_a = d.deal_id limit 1) as x "
        "from crm.deals as d",
        "Correlated subqueries that reference other tables",
    ),
    (
        "correlated subquery that is no join",
        "select (select count(*) from crm.pairs as p where p.deal_id_a = d.deal_id) as x "
        "from crm.deals as d",
        "select (select count(*) from crm.pairs as p where p.deal_id_a < d.deal_id) as x "
        "from crm.deals as d",
        "Correlated subqueries that reference other tables",
    ),
    (
        "partition by a text",
        "create table crm.copy partition by timestamp_trunc(created_at, day) as "
        "select * from crm.deals",
        "create table crm.copy partition by owner as select * from crm.deals",
        "PARTITION BY expression must be",
    ),
    (
        "cluster by an array",
        "create table crm.copy cluster by deal_id, owner as select * from crm.deals",
        "create table crm.copy cluster by words as select * from crm.deals",
        "CLUSTER BY",
    ),
    (
        "reserved column name",
        "create table crm.copy (partition_day date)",
        "create table crm.copy (_partition_day date)",
        "reserved prefix",
    ),
    (
        "unknown option of a table",
        "create table crm.copy (day date) partition by day "
        "options (require_partition_filter = true)",
        "create table crm.copy (day date) partition by day options (require_filter = true)",
        "Unknown option: require_filter",
    ),
    (
        "label in upper case",
        "create table crm.copy (day date) options (labels = [('app', 'onedeal')])",
        "create table crm.copy (day date) options (labels = [('App', 'onedeal')])",
        "Invalid label",
    ),
    (
        "table that is there already",
        "create or replace table crm.deals (deal_id string)",
        "create table crm.deals (deal_id string)",
        "Already Exists: Table shop:crm.deals",
    ),
    (
        "view dropped as a table",
        "drop view crm.open_deals",
        "drop table crm.open_deals",
        "Cannot drop shop:crm.open_deals which has type VIEW",
    ),
    (
        "new column of a missing table",
        "alter table crm.deals add column stage string",
        "alter table crm.deal add column stage string",
        "not found",
    ),
    (
        "insert of a wrong type",
        "insert into crm.deals (deal_id, amount) values ('a', 1)",
        "insert into crm.deals (deal_id, amount) values ('a', 'one')",
        "which has type",
    ),
    (
        "merge into an unknown column",
        "merge into crm.deals as d using (select 'a' as deal_id) as n on d.deal_id = n.deal_id "
        "when matched then update set owner = 'ann'",
        "merge into crm.deals as d using (select 'a' as deal_id) as n on d.deal_id = n.deal_id "
        "when matched then update set owned_by = 'ann'",
        "owned_by",
    ),
    (
        "table that an earlier statement of the script dropped",
        "drop table crm.pairs; select deal_id from crm.deals",
        "drop table crm.deals; select deal_id from crm.deals",
        "Table not found",
    ),
    (
        "script variable of a wrong type",
        "declare days array<date>; set days = (select array_agg(date(created_at)) from crm.deals); "
        "select deal_id from crm.deals where date(created_at) in unnest(days)",
        "declare days array<date>; set days = (select array_agg(date(created_at)) from crm.deals); "
        "select deal_id from crm.deals where deal_id in unnest(days)",
        "No matching signature",
    ),
    (
        "temporary table and function",
        "create temp function half(x float64) as (x / 2);"
        "create temp table ours as select 1 as n; select half(n) as m from ours",
        "create temp function half(x float64) as (x / 2);"
        "create temp table ours as select 'one' as n; select half(n) as m from ours",
        "Unable to coerce type STRING to expected type FLOAT64",
    ),
    (
        "system variable",
        "set @@query_label = 'app:onedeal'; select @@project_id as project",
        "set @@query_label = 'app:onedeal'; select @@project as project",
        "@@project",
    ),
    (
        "fault in a branch of a script",
        "declare n int64 default 1; if n > 0 then select owner from crm.deals; end if",
        "declare n int64 default 1; if n > 0 then select owners from crm.deals; end if",
        "Unrecognized name: owners",
    ),
    (
        "ML.PREDICT without a feature",
        "select pair_id from ml.predict(model crm.model, (select * from crm.pairs))",
        "select pair_id from ml.predict(model crm.model, "
        "(select * except (name_similarity) from crm.pairs))",
        "Column name_similarity is not found in the input data",
    ),
    (
        "ML.PREDICT with a feature of a wrong type",
        "select pair_id from ml.predict(model crm.model, (select * replace (1 as name_similarity)"
        " from crm.pairs))",
        "select pair_id from ml.predict(model crm.model, (select * replace ('1' as name_similarity)"
        " from crm.pairs))",
        "Column name_similarity has type STRING",
    ),
    (
        "ML.PREDICT's columns under a wrong name",
        "select array_length(predicted_is_duplicate_probs) as classes"
        " from ml.predict(model `shop`.`crm`.`model`, table crm.pairs)",
        "select array_length(predicted_label_probs) as classes"
        " from ml.predict(model `shop`.`crm`.`model`, table crm.pairs)",
        "Unrecognized name: predicted_label_probs",
    ),
    (
        "ML.PREDICT's settings",
        "select pair_id from ml.predict(model crm.model, table crm.pairs, struct(1 as threshold))",
        "select pair_id from ml.predict(model crm.model, table crm.pairs, struct(1 as treshold))",
        "treshold",
    ),
    (
        "unknown model",
        "select pair_id from ml.predict(model crm.trees, table crm.pairs)",
        "select pair_id from ml.predict(model crm.forest, table crm.pairs)",
        "Not found: Model shop:crm.forest",
    ),
    (
        "two models in one statement, one input without features",
        "select log_loss from ml.evaluate(model crm.model, table crm.pairs) union all "
        "select log_loss from ml.evaluate(model crm.trees, table crm.pairs)",
        "select log_loss from ml.evaluate(model crm.model, table crm.pairs) union all "
        "select log_loss from ml.evaluate(model crm.trees, table crm.deals)",
        "No matching signature",
    ),
    (
        "column of ML.EVALUATE",
        "select roc_auc from ml.evaluate(model crm.model)",
        "select pr_auc from ml.evaluate(model crm.model)",
        "Unrecognized name: pr_auc",
    ),
    (
        "weights of trees",
        "select processed_input, weight from ml.weights(model crm.model)",
        "select processed_input, weight from ml.weights(model crm.trees)",
        "ML.WEIGHTS is not supported for BOOSTED_TREE_CLASSIFIER",
    ),
    (
        "importance of linear features",
        "select feature, importance_gain from ml.feature_importance(model crm.trees)",
        "select feature, importance_gain from ml.feature_importance(model crm.model)",
        "ML.FEATURE_IMPORTANCE is not supported for LOGISTIC_REG",
    ),
    (
        "replacement of a model",
        "create model crm.second options (model_type = 'logistic_reg', "
        "input_label_cols = ['is_duplicate'], l2_reg = hparam_range(0, 1)) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "create model crm.model options (model_type = 'logistic_reg', "
        "input_label_cols = ['is_duplicate']) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "Already Exists: Model shop:crm.model",
    ),
    (
        "label that is not in the training data",
        "create or replace model crm.model options (model_type = 'logistic_reg', "
        "input_label_cols = ['is_duplicate']) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "create or replace model crm.model options (model_type = 'logistic_reg', "
        "input_label_cols = ['is_double']) as select is_duplicate, name_similarity from crm.pairs",
        "Label column is_double",
    ),
    (
        "option of another model type",
        "create model crm.second options (model_type = 'boosted_tree_classifier', "
        "input_label_cols = ['is_duplicate'], subsample = 0.8) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "create model crm.second options (model_type = 'logistic_reg', "
        "input_label_cols = ['is_duplicate'], subsample = 0.8) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "Unknown option subsample",
    ),
    (
        "value of an option",
        "create model crm.second options (model_type = 'logistic_reg', early_stop = false, "
        "input_label_cols = ['is_duplicate']) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "create model crm.second options (model_type = 'logistic_reg', early_stop = 'no', "
        "input_label_cols = ['is_duplicate']) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "Invalid value 'no' for option early_stop",
    ),
    (
        "common table expressions that read a table many times",
        _doubled(5),
        _doubled(7),
        "too many subqueries or query is too complex",
    ),
    (
        "learning rate that the line search chooses",
        "create model crm.second options (model_type = 'logistic_reg', learn_rate = 0.2, "
        "learn_rate_strategy = 'constant', input_label_cols = ['is_duplicate']) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "create model crm.second options (model_type = 'logistic_reg', learn_rate = 0.2, "
        "input_label_cols = ['is_duplicate']) as "
        "select is_duplicate, name_similarity from crm.pairs",
        "Option learn_rate can't be given with learn_rate_strategy LINE_SEARCH",
    ),
    (
        "weights of rows beside those of classes",
        "create model crm.second options (model_type = 'boosted_tree_classifier', "
        "input_label_cols = ['is_duplicate'], instance_weight_col = 'name_similarity') as "
        "select is_duplicate, name_similarity from crm.pairs",
        "create model crm.second options (model_type = 'boosted_tree_classifier', "
        "input_label_cols = ['is_duplicate'], instance_weight_col = 'name_similarity', "
        "auto_class_weights = true) as select is_duplicate, name_similarity from crm.pairs",
        "Option auto_class_weights can't be given with instance_weight_col",
    ),
    (
        "unknown option of a model's description",
        "alter model crm.model set options (description = 'old', labels = [('app', 'onedeal')])",
        "alter model crm.model set options (note = 'the first')",
        "Unknown option: note",
    ),
    (
        "unknown column of BigQuery's own views",
        "select table_name, column_name from crm.INFORMATION_SCHEMA.COLUMNS",
        "select table_name, column from crm.INFORMATION_SCHEMA.COLUMNS",
        "Unrecognized name: column",
    ),
]


@pytest.fixture
def catalogue() -> Catalogue:
    found = Catalogue("shop", datasets={("shop", "crm")})
    found.tables[DEALS] = Table(
        {
            "deal_id": "STRING",
            "deal_name": "STRING",
            "owner": "STRING",
            "amount": "NUMERIC",
            "created_at": "TIMESTAMP",
            "words": "ARRAY<STRING>",
        }
    )
    found.tables[PAIRS] = Table(
        {
            "pair_id": "STRING",
            "deal_id_a": "STRING",
            "deal_id_b": "STRING",
            "is_duplicate": "INT64",
            **FEATURES,
        }
    )
    found.tables[Name("shop", "crm", "open_deals")] = Table(
        {"deal_id": "STRING"}, kind="VIEW", view_query="select deal_id from crm.deals"
    )
    found.models[MODEL] = Model(FEATURES, "is_duplicate", "INT64")
    found.models[TREES] = Model(FEATURES, "is_duplicate", "INT64", "BOOSTED_TREE_CLASSIFIER")
    return found


@pytest.mark.parametrize(
    ("accepted", "refused", "message"),
    [twin[1:] for twin in TWINS],
    ids=[twin[0] for twin in TWINS],
)
def test_faults_are_refused_and_their_twins_are_not(
    catalogue: Catalogue, accepted: str, refused: str, message: str
) -> None:
    analyser = Analyser(catalogue)
    assert analyser.check(accepted).refusals == []
    (refusal,) = analyser.check(refused).refusals
    assert message in refusal.message


def check(catalogue: Catalogue, sql: str) -> Result:
    result = Analyser(catalogue).check(sql)
    assert result.refusals == []
    return result


@pytest.mark.parametrize(
    ("sql", "line", "column"),
    [
        ("select\n    deal_id,\n    nothing\nfrom crm.deals", 3, 5),
        ("select 'é', nothing from crm.deals", 1, 13),
        ("select 1 as a;\nselect nothing from crm.deals", 2, 8),
        ("declare n int64;\nset n = nothing", 2, 9),
        ("declare n int64;\nif n > 1 and\n  nothing then select 1 as a; end if", 3, 3),
        (
            "\nselect pair_id from ml.predict(model crm.model, (select nothing from crm.pairs))",
            2,
            57,
        ),
        ("select pair_id\nfrom ml.predict(model crm.nothing, table crm.pairs)", 2, 23),
    ],
)
def test_a_refusal_tells_where(catalogue: Catalogue, sql: str, line: int, column: int) -> None:
    (refusal,) = Analyser(catalogue).check(sql).refusals
    assert (refusal.line, refusal.column) == (line, column)


def test_a_statement_tells_its_kind_columns_and_tables(catalogue: Catalogue) -> None:
    sql = """
    select d.deal_id, [d.amount] as amounts, struct(p.pair_id as id) as pair
    from crm.deals as d
    inner join `shop.crm.pairs` as p on d.deal_id = p.deal_id_a
    """
    (statement,) = check(catalogue, sql).statements
    assert statement.kind == "SELECT"
    assert statement.columns == (
        ("deal_id", "STRING"),
        ("amounts", "ARRAY<NUMERIC>"),
        ("pair", "STRUCT<`id` STRING>"),
    )
    assert set(statement.tables) == {DEALS, PAIRS}
    assert statement.target is None and statement.effects == ()


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("create table crm.copy as select * from crm.deals", "CREATE_TABLE_AS_SELECT"),
        ("create view crm.copy as select * from crm.deals", "CREATE_VIEW"),
        ("insert into crm.deals (deal_id) values ('a')", "INSERT"),
        ("delete from crm.deals where true", "DELETE"),
        ("update crm.deals set owner = 'ann' where true", "UPDATE"),
        ("truncate table crm.deals", "TRUNCATE_TABLE"),
        ("drop table crm.deals", "DROP_TABLE"),
        ("drop model crm.model", "DROP_MODEL"),
        ("alter model crm.model set options (description = 'old')", "ALTER_MODEL"),
        ("export model crm.model options (uri = 'gs://bucket/model')", "EXPORT_MODEL"),
        ("create schema other", "CREATE_SCHEMA"),
        ("select 1 as a; select 2 as a", "SCRIPT"),
    ],
)
def test_a_statement_has_bigquerys_type(catalogue: Catalogue, sql: str, kind: str) -> None:
    assert check(catalogue, sql).kind == kind


def test_effects_change_the_catalogue_when_they_are_applied(catalogue: Catalogue) -> None:
    copy = Name("shop", "crm", "copy")
    sql = """
    create table crm.copy partition by timestamp_trunc(created_at, day) cluster by deal_id
    options (description = 'a copy', labels = [('app', 'onedeal')])
    as select deal_id, created_at from crm.deals;
    alter table crm.copy add column stage string;
    create model crm.second options (model_type = 'boosted_tree_classifier',
        input_label_cols = ['is_duplicate'], data_split_method = 'custom', data_split_col = 'held')
    as select is_duplicate, name_similarity, true as held from crm.pairs;
    drop table crm.pairs
    """
    result = check(catalogue, sql)
    assert copy not in catalogue.tables
    catalogue.apply(result.effects)
    assert catalogue.tables[copy] == Table(
        {"deal_id": "STRING", "created_at": "TIMESTAMP", "stage": "STRING"},
        partition_column="created_at",
        cluster_columns=("deal_id",),
        description="a copy",
        labels={"app": "onedeal"},
    )
    assert catalogue.models[Name("shop", "crm", "second")] == Model(
        {"name_similarity": "FLOAT64"}, "is_duplicate", "INT64", "BOOSTED_TREE_CLASSIFIER"
    )
    assert PAIRS not in catalogue.tables


def test_a_crash_of_the_service_is_a_refusal_and_the_next_statement_is_analysed(
    catalogue: Catalogue,
) -> None:
    crashing = "select net.reg_domain('http://www.example.co.uk') as domain"
    with pytest.raises(EvaluationError, match="crashed"):
        evaluate_query(catalogue, crashing)
    check(catalogue, "select deal_id from crm.deals")


def test_parameters_have_types(catalogue: Catalogue) -> None:
    sql = "select deal_id from crm.deals where owner = @owner"
    assert Analyser(catalogue).check(sql, parameters={"owner": "STRING"}).refusals == []
    (refusal,) = Analyser(catalogue).check(sql, parameters={"owner": "INT64"}).refusals
    assert "No matching signature" in refusal.message
    (refusal,) = Analyser(catalogue).check(sql).refusals
    assert "owner" in refusal.message


def test_the_reference_evaluates_tables_and_views(catalogue: Catalogue) -> None:
    at = datetime.datetime(2026, 8, 1, 12, 30, tzinfo=datetime.UTC)
    rows = {DEALS: [("a", "Pump", None, decimal.Decimal("1.5"), at, ["x", None])]}
    found = evaluate_query(
        catalogue, "select d.*, date(created_at) as day from crm.deals as d", rows
    )
    assert found.columns[-1] == ("day", "DATE")
    assert found.values == [(*rows[DEALS][0], datetime.date(2026, 8, 1))]
    assert evaluate_query(catalogue, "select * from crm.open_deals", rows).values == [("a",)]
    assert evaluate_query(catalogue, "select count(*) as n from crm.pairs").values == [(0,)]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        # Where engines differ, the reference has BigQuery's value.
        ("cast(2.5 as int64)", 3),
        ("edit_distance('é', 'e')", 1),
        (
            "timestamp_diff(timestamp '2026-01-02 01:00:00', timestamp '2026-01-01 23:00:00', day)",
            0,
        ),
        ("lower('ÀÇ')", "àç"),
        ("to_hex(md5('a'))", "0cc175b9c0f1b6a831c399e269772661"),
        ("bignumeric '-3.25'", decimal.Decimal("-3.25")),
        ("datetime '2026-01-02 03:04:05.678'", datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)),
        ("time '03:04:05.678'", datetime.time(3, 4, 5, 678000)),
        ("struct(1 as a, [struct('x' as b)] as c)", {"a": 1, "c": [{"b": "x"}]}),
        ("b'ab'", b"ab"),
        ("cast(null as date)", None),
    ],
)
def test_the_reference_gives_values(catalogue: Catalogue, expression: str, value: object) -> None:
    assert evaluate_query(catalogue, f"select {expression} as v").values == [(value,)]
