"""The story that `test_loop.py` reads: the whole loop on BigQuery and Vertex AI, both emulated.

Day 1: deals, verdicts of which three in ten are wrong, and the first model. Day 2: more deals,
right verdicts in place of the wrong ones, and a better model, with a canary. Day 3: a model that is
no better; nothing new after it. Then a person promotes that model, and its canary goes wrong;
promotes it again, and it serves; and goes back to the first.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from google.cloud.bigquery import Client

from duckdb_bqml.model import load_model
from flows import gate
from flows.bundle import current_version
from flows.demo_deals import generate_deals, verdicts
from flows.deploy import CHAMPION_MODEL
from flows.errors import VertexError
from flows.evaluate import FileEvaluation, evaluate
from flows.gate import LIMITS
from flows.ingest import IngestReport, ingest_deals, ingest_labels
from flows.retrain import RetrainResult, retrain
from flows.rollback import ChampionChange, promote, rollback
from flows.settings import Settings
from flows.status import Status, status
from flows.warehouse import open_warehouse
from tests.bigquery.emulator.process import Emulator
from tests.python.bigquery.environment import new_environment
from tests.python.homes import PROJECT
from tests.vertex.rest import serve_rest
from tests.vertex.service import BigQueryModel, VertexService

DEALS, FIRST_DEALS, SEED = 300, 280, 3
FIRST_VERDICTS, MORE_VERDICTS, LAST_VERDICTS = 300, 900, 10
TOKEN = "ya29.a-secret-token"
DATASET = "onedeal"
LENIENT = replace(
    LIMITS,
    min_positives=5,
    min_average_precision=0.2,
    min_precision=0.2,
    max_calibration_error=0.5,
)


@dataclass
class Moment:
    """What the servers held when a step had ended, and what was called during it."""

    traffic: dict[str, int]
    aliases: dict[str, str]
    splits: list[dict[str, int]]
    calls: list[str]
    answers: Counter[str]
    copied_from: str
    bundle: str | None
    scored: dict[str, int]


@dataclass
class Story:
    """What the flows said, in order, and the moments after each."""

    settings: Settings
    service: VertexService
    environment: dict[str, str]
    ingested: list[IngestReport] = field(default_factory=list)
    days: list[RetrainResult] = field(default_factory=list)
    moments: dict[str, Moment] = field(default_factory=dict)
    out: Path = Path()
    idle: RetrainResult = field(init=False)
    evaluated: FileEvaluation = field(init=False)
    taken_back: str = ""
    promoted: ChampionChange = field(init=False)
    rolled_back: ChampionChange = field(init=False)
    status: Status = field(init=False)

    @property
    def versions(self) -> list[str]:
        """The candidate of each day."""
        return [day.candidate.model_version for day in self.days if day.candidate is not None]


class RegisteredModels:
    """What BigQuery says is registered, and what its models say of pairs.

    off: what is added to a version's probabilities on the endpoint.
    """

    def __init__(self, client: Client, storage: Path) -> None:
        self._client = client
        self._storage = storage
        self._loaded: dict[str, Any] = {}
        self.off: dict[str, float] = {}

    def listed(self) -> list[BigQueryModel]:
        """Read anew at every request."""
        found = []
        for item in self._client.list_models(DATASET):
            run = self._client.get_model(item.reference).training_runs[0]
            if "vertexAiModelId" in run:
                found.append(
                    BigQueryModel(
                        str(item.model_id), run["vertexAiModelId"], run["vertexAiModelVersion"]
                    )
                )
        return found

    def predict(self, model: v1.Model, instances: list[dict[str, Any]]) -> list[float]:
        """By the model itself, exported from BigQuery."""
        name = model.metadata_schema_uri.removeprefix("bq://")
        if name not in self._loaded:
            reference = f"{self._client.project}.{DATASET}.{name}"
            self._client.query_and_wait(
                f"export model `{reference}` options (uri = 'gs://models/{name}')"
            )
            text = (self._storage / "models" / name / "model.json").read_text()
            self._loaded[name] = load_model(text)
        off = self.off.get(model.labels["onedeal_version"], 0.0)
        given = self._loaded[name].predict_proba(pa.Table.from_pylist(instances))
        return [float(probability) + off for probability in given]


@contextmanager
def told(emulator: Emulator, folder: Path) -> Iterator[Story]:
    """Lives through the story, and keeps its servers up for those who look at them."""
    environment = new_environment(emulator, folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        client = Client(
            project=environment["ONEDEAL_GCP_PROJECT"],
            client_options={"api_endpoint": emulator.endpoint},
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        )
        models = RegisteredModels(client, emulator.storage)
        service = VertexService(
            models.predict,
            bigquery=models.listed,
            project=environment["ONEDEAL_GCP_PROJECT"],
        )
        with serve_rest(service) as address:
            _set_up_vertex(Path(environment["DBT_PROFILES_DIR"]) / "profiles.yml", address)
            story = Story(Settings(folder / "home", PROJECT, "emulator"), service, environment)
            _live(story, models, client, folder)
            yield story
        client.close()  # type: ignore[no-untyped-call]


def _set_up_vertex(profiles: Path, address: str) -> None:
    document = yaml.safe_load(profiles.read_text())
    document["onedeal"]["outputs"]["emulator"].update(
        token=TOKEN,
        vertex={
            "api_endpoint": address,
            "canary_percent": 20,
            "soak_minutes": 0,
            "labels": {"budget": "deals"},
            "node_hour_rate": "{{ env_var('RATE', '0.11') }}",
        },
    )
    profiles.write_text(yaml.safe_dump(document))


def _live(story: Story, models: RegisteredModels, client: Client, files: Path) -> None:
    settings, service = story.settings, story.service
    generated = generate_deals(DEALS, SEED)
    old, news = generated.deals.slice(0, FIRST_DEALS), generated.deals.slice(FIRST_DEALS)
    wrong, right = (
        verdicts(
            generated, FIRST_VERDICTS, SEED, error_rate=rate, among=old.column("deal_id"), day=day
        )
        for rate, day in ((0.3, date(2026, 8, 1)), (0, date(2026, 8, 2)))
    )
    more = verdicts(
        generated, MORE_VERDICTS, SEED + 1, error_rate=0, known=right, day=date(2026, 8, 2)
    )
    second = pa.concat_tables([right, more])
    last = verdicts(
        generated, LAST_VERDICTS, SEED + 2, error_rate=0, known=second, day=date(2026, 8, 3)
    )

    def remember(name: str) -> None:
        copy = client.get_model(f"{client.project}.{DATASET}.{CHAMPION_MODEL}")
        story.moments[name] = Moment(
            service.by_version(),
            service.aliases(),
            list(service.splits),
            list(service.calls),
            Counter(service.answers),
            copy.labels["onedeal_copy_of"],
            current_version(settings),
            _scored_pairs(settings),
        )
        service.calls.clear()
        service.splits.clear()
        service.answers.clear()

    def ingest(name: str, table: pa.Table, by: Callable[..., IngestReport]) -> None:
        file = files / f"{name}.parquet"
        pq.write_table(table, file)
        story.ingested += [by(settings, [file]), by(settings, [file])]

    for day, (deals, labels) in enumerate(((old, wrong), (news, second), (None, last)), start=1):
        if deals is not None:
            ingest(f"deals{day}", deals, ingest_deals)
        ingest(f"labels{day}", labels, ingest_labels)
        # So few deals are enough here; on the third day, not to be worse is no longer.
        limits = LENIENT if day == 3 else replace(LENIENT, min_difference=-0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gate, "LIMITS", limits)
            story.days.append(retrain(settings))
        remember(f"day {day}")
    story.idle = retrain(settings)
    story.out = files / "predicted.csv"
    labelled = files / "labelled.csv"
    _write_pairs(labelled, right)
    story.evaluated = evaluate(settings, labelled, out=story.out)

    first, _, worse = story.versions
    models.off[worse] = 1e-4
    with pytest.raises(VertexError) as taken_back:
        promote(settings, worse, reason="to see its canary", by="ann")
    story.taken_back = str(taken_back.value)
    remember("taken back")
    del models.off[worse]
    story.promoted = promote(settings, worse, reason="to see it work", by="ann")
    remember("promoted")
    story.rolled_back = rollback(settings, first, by="ann")
    remember("rolled back")
    story.status = status(settings)


def _scored_pairs(settings: Settings) -> dict[str, int]:
    """Scored pairs by model version."""
    with open_warehouse(settings) as warehouse:
        rows = warehouse.query(
            "select model_version, count(*) as pairs "
            f"from {warehouse.name('deal_predictions')} group by model_version"
        )
    return {row["model_version"]: row["pairs"] for row in rows}


def _write_pairs(file: Path, pairs: pa.Table) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("deal_id_a", "deal_id_b", "is_duplicate"))
        for row in pairs.to_pylist():
            writer.writerow((row["deal_id_a"], row["deal_id_b"], row["is_duplicate"]))
