"""The serving bundle: one directory with all that the prediction service needs of a model version.

::

    bundles/<model_version>/
      bundle.json              what it is, and size and SHA-256 of every other file
      *.arrow, *.npy           the deals to be matched against, their keys and words: see
                               `flows.bundle_index`
      match_weights.parquet    the Fellegi-Sunter model of the run that trained the version
      model.json               the model, as `duckdb_bqml.model.load_model` reads it; not there when
                               it was trained on BigQuery, where Vertex AI serves it
      words.json               what the features say of a pair, in words
      sql/*.sql                the matching SQL, compiled for DuckDB from the dbt macros: see
                               `flows.bundle_matching`
    bundles/current            a symbolic link to the champion's directory

A bundle never changes. It is written whole in a directory of another name and renamed; `current` is
replaced in one step. So whoever follows the link finds a complete bundle at every moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.contract import load_contract
from flows.errors import BundleError
from flows.fellegi_sunter import as_stored_model
from flows.files import sync
from flows.settings import Settings
from flows.versions import FELLEGI_SUNTER, model_relation, weights_relation
from flows.warehouse import Warehouse, utc_now

FORMAT_VERSION = 3
RAW_DEALS = "raw_deals"
MANIFEST = "bundle.json"
MODEL_FILE = "model.json"
WORDS_FILE = "words.json"
UNFINISHED = ".unfinished-"
REPLACED = "replaced-"

RELATIONS = {
    "tokens": "int_deals__tokens",
    "token_statistics": "int_deals__token_statistics",
    "pairing_keys": "int_deals__pairing_keys",
    "capped_blocks": "int_deals__capped_blocks",
    "best_matches": "int_deals__best_matches",
}
"""What the index is made of: name of the relation in the bundle's SQL, and in the warehouse."""

MATCH_WEIGHTS = "match_weights"
"""Name in the bundle's SQL of the one relation that is the model version's own."""

DEFINITION = "int_pairs__definition"
"""The table that says by which SQL the warehouse's deals, keys and pairs were made."""

EXPORT_MEMORY = "600MB"
"""What the warehouse may take in this process while a bundle is written; more goes to disk."""

STEPS = {
    "incoming_clean": "serving__clean",
    "incoming_words": "serving__words",
    "incoming_tokens": "serving__tokens",
    "incoming_block_keys": "serving__block_keys",
    "incoming_pairing_keys": "serving__pairing_keys",
    "candidate_pairs": "serving__candidate_pairs",
    "compared_pairs": "serving__pair_features",
    "pairs_with_margins": "serving__margins",
    "weights_row": "serving__weights_row",
    "weighed_pairs": "serving__weighed_pairs",
    "pair_features": "serving__match_weights",
    "comparison_levels": "serving__comparison_levels",
}
"""What turns `incoming_deals` into pair features: relations and their SQL files, in order."""

SCREENED_SQL = "serving__screened"
"""SQL over `tokens` that gives what the screen reads of each deal."""


@dataclass(frozen=True)
class BundleInfo:
    """The content of `bundle.json`.

    threshold: the probability from which on a pair is called a duplicate. features: the model's
    input columns, in order. deal_columns: the columns of a deal as it comes in and their types, in
    the words of the raw contract. newest_change: the `changed_at` of the newest deal in it, as ISO
    8601 text (UTC, no zone); None where there is no deal. files: size in bytes and SHA-256 by path
    within the bundle. definition: see `read_definition`.
    """

    model_version: str
    model_type: str
    threshold: float
    created_at: str
    features: tuple[str, ...]
    deal_columns: Mapping[str, str]
    newest_change: str | None
    files: Mapping[str, Mapping[str, Any]]
    definition: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Compiled:
    """What a bundle takes over from the dbt project.

    sql: the matching SQL by name, for DuckDB. phrases: what each feature says in words, by column
    (see `serving.reasons`).
    """

    sql: Mapping[str, str]
    phrases: Mapping[str, Mapping[str, Any]]


def write_bundle(
    settings: Settings,
    warehouse: Warehouse,
    *,
    model_version: str,
    model_type: str,
    threshold: float,
    compiled: Compiled,
    check: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Write the bundle of a model version and return its directory.

    check: is given the whole bundle before it takes its place, and may raise. A bundle of that
    version that exists already is replaced; it stays where the new one can't be written or does not
    pass. Killed at any moment, this leaves either no bundle of that name or a whole one. Raises
    BundleError when SQL of STEPS or a relation of RELATIONS is missing.
    """
    check_steps(compiled.sql)
    unbuilt = [relation for relation in RELATIONS.values() if not warehouse.exists(relation)]
    if unbuilt:
        raise BundleError(
            f"A serving bundle needs {', '.join(unbuilt)}, which is not built: the home may be an "
            "older onedeal's. Run `dbt build --full-refresh`, then this command again."
        )
    final = bundle_path(settings, model_version)
    aside = settings.bundles_dir / f"{UNFINISHED}{model_version}"
    if aside.exists():
        shutil.rmtree(aside)
    (aside / "sql").mkdir(parents=True)
    warehouse.limit_memory(EXPORT_MEMORY)
    newest_change = _write_index(warehouse, aside, model_version, compiled.sql[SCREENED_SQL])
    model = (
        as_stored_model()
        if model_type == FELLEGI_SUNTER
        else warehouse.read_model(model_relation(model_version))
    )
    if model.document is not None:
        (aside / MODEL_FILE).write_text(model.document, encoding="utf-8")
    (aside / WORDS_FILE).write_text(json.dumps(compiled.phrases, indent=1), encoding="utf-8")
    for name in STEPS.values():
        (aside / "sql" / f"{name}.sql").write_text(compiled.sql[name], encoding="utf-8")
    files = {
        str(path.relative_to(aside)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(aside.rglob("*"))
        if path.is_file()
    }
    info = BundleInfo(
        model_version=model_version,
        model_type=model_type,
        threshold=threshold,
        created_at=utc_now().isoformat(timespec="seconds") + "Z",
        features=model.features,
        deal_columns=deal_columns(settings),
        newest_change=newest_change,
        files=files,
        definition=read_definition(warehouse),
    )
    (aside / MANIFEST).write_text(json.dumps(asdict(info), indent=2), encoding="utf-8")
    for path in sorted(aside.rglob("*")):
        sync(path)
    sync(aside)
    check(aside)
    if final.exists():
        replaced = settings.bundles_dir / f"{UNFINISHED}{REPLACED}{model_version}"
        shutil.rmtree(replaced, ignore_errors=True)
        os.rename(final, replaced)
        os.rename(aside, final)
        shutil.rmtree(replaced)
    else:
        os.rename(aside, final)
    sync(settings.bundles_dir)
    return final


def _write_index(
    warehouse: Warehouse, directory: Path, model_version: str, screened: str
) -> str | None:
    """Write the files of the index and the match weights; give the newest `changed_at`."""
    from flows.bundle_index import write_index

    relations = {**RELATIONS, MATCH_WEIGHTS: weights_relation(model_version)}
    with (
        tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=directory.parent) as scratch,
        warehouse.in_duckdb(relations, Path(scratch)) as connection,
    ):
        write_index(connection, directory, screened)
        file = str(directory / f"{MATCH_WEIGHTS}.parquet").replace("'", "''")
        connection.execute(f"copy (from {MATCH_WEIGHTS}) to '{file}' (format parquet)").fetchall()
        newest = connection.execute("select max(changed_at) from tokens").fetchall()[0][0]
    return None if newest is None else str(newest.isoformat())


def read_definition(warehouse: Warehouse) -> dict[str, str]:
    """By which SQL, and which full build, the warehouse's deals, keys and pairs were made, by part.

    Empty where the table that says so was not built yet, or a full build was killed.
    """
    if not warehouse.exists(DEFINITION):
        return {}
    rows = warehouse.query(f"select part, digest from {warehouse.name(DEFINITION)}")
    return {row["part"]: row["digest"] for row in rows}


def read_manifest(path: Path) -> BundleInfo:
    """What a bundle says it is. Raises BundleError when there is none or it can't be read."""
    manifest = path / MANIFEST
    try:
        document = json.loads(manifest.read_text(encoding="utf-8"))
        info = BundleInfo(**{**document, "features": tuple(document["features"])})
    except FileNotFoundError as error:
        raise BundleError(f"There is no serving bundle at {path}.") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{manifest} can't be read: {error}") from error
    if info.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{manifest} has the format version {info.format_version}; this onedeal reads version "
            f"{FORMAT_VERSION}. Run `onedeal retrain --force` to write a new one."
        )
    return info


def read_bundle(path: Path, *, thorough: bool = True) -> BundleInfo:
    """Read and check a bundle: its files are all there, with their sizes and (thorough) checksums.

    Raises BundleError that says what is wrong.
    """
    info = read_manifest(path)
    for name, expected in info.files.items():
        fault = file_fault(path, name, expected, thorough=thorough)
        if fault:
            raise BundleError(f"The bundle {path} is {fault}.")
    return info


def file_fault(
    path: Path, name: str, expected: Mapping[str, Any], *, thorough: bool = True
) -> str | None:
    """What is wrong with a file of a bundle, by what its manifest tells; None where it is right."""
    file = path / name
    if not file.is_file():
        return f"incomplete: {name} is missing"
    found = file.stat().st_size
    if found != expected["bytes"]:
        return f"damaged: {name} has {found} bytes instead of {expected['bytes']}"
    if thorough and _sha256(file) != expected["sha256"]:
        return f"damaged: {name} has other content"
    return None


def bundle_path(settings: Settings, model_version: str) -> Path:
    """Where the bundle of that version is, or would be."""
    return settings.bundles_dir / model_version


def bundle_versions(settings: Settings) -> list[str]:
    """The model versions that have a bundle, oldest first (versions sort by time)."""
    if not settings.bundles_dir.is_dir():
        return []
    return sorted(
        path.name
        for path in settings.bundles_dir.iterdir()
        if path.is_dir() and not path.is_symlink() and not path.name.startswith(UNFINISHED)
    )


def current_version(settings: Settings) -> str | None:
    """The model version that `current` points to, None where there is no link."""
    try:
        return os.readlink(settings.current_bundle)
    except OSError:
        return None


def switch_to(settings: Settings, model_version: str) -> None:
    """Point `current` to the bundle of that version, in one step."""
    aside = settings.bundles_dir / f"{UNFINISHED}current"
    aside.unlink(missing_ok=True)
    os.symlink(model_version, aside, target_is_directory=True)
    os.replace(aside, settings.current_bundle)
    sync(settings.bundles_dir)


def remove_bundle(settings: Settings, model_version: str) -> None:
    """Remove the bundle of that version, if there is one: first its name, then its files."""
    path = bundle_path(settings, model_version)
    if path.is_dir():
        removed = settings.bundles_dir / f"{UNFINISHED}removed-{model_version}"
        shutil.rmtree(removed, ignore_errors=True)
        os.rename(path, removed)
        shutil.rmtree(removed)


def remove_unfinished(settings: Settings) -> list[str]:
    """Remove what a killed process left half-written, and return the names.

    A bundle that it had moved out of the way of a new one, which then did not come, goes back.
    """
    if not settings.bundles_dir.is_dir():
        return []
    left = [p for p in settings.bundles_dir.iterdir() if p.name.startswith(UNFINISHED)]
    for path in left:
        version = path.name.removeprefix(f"{UNFINISHED}{REPLACED}")
        if version != path.name and not bundle_path(settings, version).exists():
            os.rename(path, bundle_path(settings, version))
        elif path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)
    return sorted(path.name.removeprefix(UNFINISHED) for path in left)


def deal_columns(settings: Settings) -> dict[str, str]:
    """The columns of a deal as it comes in, and their types, in the words of the raw contract."""
    contract = load_contract(settings.project_dir).table(RAW_DEALS)
    return {column.name: column.data_type for column in contract.columns}


def check_steps(sql: Mapping[str, str]) -> None:
    """Raise BundleError where SQL that a bundle consists of is not among the compiled `sql`."""
    needed = (*STEPS.values(), SCREENED_SQL)
    lacking = [name for name in needed if name not in sql]
    if lacking:
        raise BundleError(
            f"A serving bundle needs the dbt analyses {', '.join(needed)}; "
            f"the project lacks {', '.join(lacking)}."
        )


def consists_of(path: Path, sql: Mapping[str, str]) -> bool:
    """Whether there is a bundle whose queries are those of the compiled `sql`."""
    try:
        return all(read_step(path, relation) == sql.get(name) for relation, name in STEPS.items())
    except OSError:
        return False


def read_step(path: Path, relation: str) -> str:
    """The bundle's query that makes one of the relations of STEPS."""
    return (path / "sql" / f"{STEPS[relation]}.sql").read_text(encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
