"""What else of the REST interface bqemulator answers otherwise than BigQuery."""

from typing import Annotated, Any

import fastapi.routing
from bqemulator.api.dependencies import AppContext, get_context
from bqemulator.api.routes import tables
from bqemulator.domain.errors import NotFoundError
from bqemulator.versioning.snapshots import SnapshotManager
from fastapi import APIRouter, Depends, Query, Request

router = APIRouter(prefix="/bigquery/v2/projects/{project_id}/datasets/{dataset_id}")

Context = Annotated[AppContext, Depends(get_context)]


@router.get("/tables")
async def list_tables(
    project_id: str,
    dataset_id: str,
    context: Context,
    size: Annotated[int, Query(alias="maxResults")] = 10_000,
) -> dict[str, Any]:
    """tables.list: a missing dataset is an error, not an empty one."""
    _require_dataset(project_id, dataset_id, context)
    found: dict[str, Any] = tables.list_tables(project_id, dataset_id, context, size)
    return found


@router.post("/tables")
async def insert_table(
    project_id: str, dataset_id: str, request: Request, context: Context
) -> dict[str, Any]:
    """tables.insert: a missing dataset is not found, and no failure of the server."""
    _require_dataset(project_id, dataset_id, context)
    found: dict[str, Any] = await tables.insert_table(project_id, dataset_id, request, context)
    return found


def _require_dataset(project: str, dataset: str, context: AppContext) -> None:
    if context.catalog.get_dataset(project, dataset) is None:
        raise NotFoundError(f"Not found: Dataset {project}:{dataset}")


def install() -> None:
    """Patch what has no route of its own."""

    async def run_here(function: Any, /, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    # Some routes run in threads, beside the statements, and on the same DuckDB connection: the
    # result of one would be taken by another.
    setattr(fastapi.routing, "run_in_threadpool", run_here)  # noqa: B010
    # Speed alone: it keeps a copy of a table at each change, for time travel.
    SnapshotManager.record_change = lambda *table: None
