"""What was ingested after a serving bundle was written, in files that the service picks up.

A bundle never changes, and a new one comes with a training. Between two, each ingest leaves its
deals as a file `new_deals/<newest _ingested_at>.parquet` beside the bundles, with the columns of
the raw contract, the newest version of each deal alone. The service cleans them by its bundle's
own SQL, so nothing has to be built first, and they are found a moment after the ingest.

What an ingest that was killed did not leave, the next command does. A file that every bundle covers
is removed. Many new deals would cost the service memory: `score` then writes the bundle anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from flows.bundle import EXPORT_MEMORY, BundleInfo, bundle_path, bundle_versions, read_manifest
from flows.contract import load_contract
from flows.errors import BundleError
from flows.files import write_table_whole
from flows.settings import Settings
from flows.warehouse import Warehouse

MOST = 20_000
"""From so many deals on that a bundle lacks, `score` writes it anew."""
_NAME = "%Y%m%dt%H%M%S%f"
_FILE = re.compile(r"\d{8}t\d{12}\.parquet")
_VERSION_TIME = "coalesce({0}updated_at, {0}created_at, timestamp '1970-01-01 00:00:00')"


def publish_new_deals(settings: Settings, warehouse: Warehouse) -> int:
    """Leave what was ingested since the last such file, and count the deals.

    Does nothing before there is a bundle, since the first one holds all deals.
    """
    covered = [*_covered(settings, only_current=True), *map(_newest_in, new_deal_files(settings))]
    if not covered:
        return 0
    warehouse.limit_memory(EXPORT_MEMORY)
    raw_deals = load_contract(settings.project_dir).table("onedeal_raw.raw_deals")
    deals = warehouse.arrow(
        _newer_deals(
            warehouse.name(raw_deals.qualified), raw_deals.column_names, since=max(covered)
        )
    )
    if not deals.num_rows:
        return 0
    import pyarrow.compute as pc

    newest: datetime = pc.max(deals.column("_ingested_at")).as_py()
    write_table_whole(settings.new_deals_dir / f"{newest:{_NAME}}.parquet", deals)
    return int(deals.num_rows)


def new_deal_files(settings: Settings) -> list[Path]:
    """The files, oldest first."""
    return files_in(settings.new_deals_dir)


def files_in(directory: Path, since: datetime | None = None) -> list[Path]:
    """The files in a directory that hold deals ingested after `since`, oldest first."""
    if not directory.is_dir():
        return []
    files = [path for path in sorted(directory.iterdir()) if _FILE.fullmatch(path.name)]
    return [path for path in files if since is None or _newest_in(path) > since]


def remove_covered_files(settings: Settings) -> list[str]:
    """Remove the files whose deals every bundle holds, and return their names."""
    covered = _covered(settings)
    if not covered:
        return []
    removed = [path for path in new_deal_files(settings) if _newest_in(path) <= min(covered)]
    for path in removed:
        path.unlink(missing_ok=True)
    return [path.name for path in removed]


def deals_beside(settings: Settings, info: BundleInfo) -> int:
    """How many deals stand in files that a bundle lacks; of two versions of a deal, both."""
    import pyarrow.parquet as pq

    files = files_in(settings.new_deals_dir, newest_change(info))
    return sum(pq.read_metadata(path).num_rows for path in files)


def newest_change(info: BundleInfo) -> datetime | None:
    """When the newest deal of a bundle was ingested; None where it holds no deal."""
    return None if info.newest_change is None else datetime.fromisoformat(info.newest_change)


def _covered(settings: Settings, *, only_current: bool = False) -> Iterable[datetime]:
    """Up to when each bundle holds all deals."""
    paths = (
        [settings.current_bundle]
        if only_current
        else [bundle_path(settings, version) for version in bundle_versions(settings)]
    )
    covered = []
    for path in paths:
        try:
            newest = newest_change(read_manifest(path))
        except BundleError:
            continue
        covered.append(newest or datetime.min)
    return covered


def _newest_in(path: Path) -> datetime:
    return datetime.strptime(path.stem, _NAME)


def version_order(columns: Iterable[str]) -> str:
    """ORDER BY of a deal's versions, the one that `stg_crm__deals` takes first.

    It is what the macro of this name gives. `columns` are those of the raw contract, in its order.
    """
    times = [f"{_VERSION_TIME.format('')} desc", "_ingested_at desc"]
    others = [column for column in columns if column not in ("deal_id", "_ingested_at")]
    return ", ".join(times + [f"{column} asc nulls last" for column in others])


def _newer_deals(raw_deals: str, columns: Iterable[str], since: datetime) -> str:
    """The deals ingested since, in the version that `stg_crm__deals` takes.

    `raw_deals` is the table's name in SQL, `columns` are those of the raw contract. An older
    version may be ingested after a newer one: that changes nothing.
    """
    at = since.isoformat(" ", "microseconds")
    moment = f"timestamp '{at}'"
    return f"""
        with news as (
            select * from {raw_deals}
            where deal_id is not null and deal_name is not null and _ingested_at > {moment}
            qualify row_number() over (
                partition by deal_id order by {version_order(columns)}
            ) = 1
        ),
        known as (
            select deal_id, max({_VERSION_TIME.format("")}) as version_time
            from {raw_deals}
            where
                deal_name is not null
                and _ingested_at <= {moment}
                and deal_id in (select deal_id from news)
            group by deal_id
        )
        select news.* from news
        left join known on news.deal_id = known.deal_id
        where known.deal_id is null or {_VERSION_TIME.format("news.")} >= known.version_time
        order by news._ingested_at
    """
