"""How long CREATE MODEL takes on DuckDB, and how much memory it needs beside the data.

    python -m benchmarks.training_speed [--rows 500000] [--features 20]

Trains each model type in a process of its own, through the SQL function that the `model`
materialization calls, on generated rows: half of the features matter, one in twenty values is
NULL, three labels in a hundred are positive. Time is that of the second training (the first one
also imports the library); memory is the peak above what the process held with the rows in place.
Scoring times the same rows through the SQL function behind ML.PREDICT.
"""

import argparse
import json
import resource
import subprocess
import sys
from time import perf_counter
from typing import Any

import duckdb

from duckdb_bqml.functions import register

MODEL_TYPES = ("LOGISTIC_REG", "BOOSTED_TREE_CLASSIFIER")


def main() -> None:
    """Measure both model types and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--model-type", choices=MODEL_TYPES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model_type:
        sys.stdout.write(json.dumps(measure(arguments.model_type, arguments)))
        return
    write = sys.stdout.write
    write(f"{arguments.rows:,} rows, {arguments.features} features\n\n")
    write("| model type | first training | training | memory | ROC AUC | scoring |\n")
    write("|---|---|---|---|---|---|\n")
    for model_type in MODEL_TYPES:
        row = json.loads(
            subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--model-type", model_type],
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
        )
        write(
            f"| {model_type} | {row['first']:.2f} s | {row['training']:.2f} s "
            f"| {row['memory']:.0f} MB | {row['roc_auc']:.3f} | {row['scoring']:.2f} s |\n"
        )


def measure(model_type: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds, megabytes and quality of one model type."""
    options = json.dumps(
        {
            "model_type": model_type,
            "input_label_cols": ["label"],
            "early_stop": False,
            "max_iterations": arguments.iterations if model_type == "LOGISTIC_REG" else 20,
        }
    )
    with duckdb.connect() as connection:
        register(connection)
        generate_rows(connection, arguments.rows, arguments.features)
        before = peak_memory()
        seconds = []
        for _ in range(2):
            started = perf_counter()
            connection.execute(
                "create or replace table model as select trained.model "
                "from (select bqml_train(?, 'select * from examples') as trained)",
                [options],
            )
            seconds.append(perf_counter() - started)
        memory = peak_memory() - before
        roc_auc = connection.execute(
            "select model -> '$.details.evaluation[0].roc_auc' from model"
        ).fetchall()[0][0]
        started = perf_counter()
        connection.execute(
            "select avg(bqml_predict(loaded.handle, examples)) from examples "
            "cross join (select bqml_load(list(model)) as handle from model) as loaded"
        ).fetchall()
        scoring = perf_counter() - started
    return {
        "first": seconds[0],
        "training": seconds[1],
        "memory": memory,
        "roc_auc": float(roc_auc),
        "scoring": scoring,
    }


def generate_rows(connection: duckdb.DuckDBPyConnection, rows: int, features: int) -> None:
    """The table `examples`: x0, x1, ... and label, the same on every run."""
    connection.execute("select setseed(0.5)")
    values = ", ".join(
        f"case when random() < 0.05 then null else random() end as x{i}" for i in range(features)
    )
    score = " + ".join(f"{i + 1} * coalesce(x{i}, 0.5)" for i in range(0, features, 2))
    connection.execute(f"create table examples as select {values} from range({rows})")
    connection.execute(
        f"create or replace table examples as select *, (({score}) * (0.8 + 0.4 * random()) > "
        f"(select quantile_cont({score}, 0.97) from examples))::bigint as label from examples"
    )


def peak_memory() -> float:
    """The most this process ever held, in MB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 if sys.platform != "darwin" else 1024 * 1024)


if __name__ == "__main__":
    main()
