"""The part `vertex` of the profile, and that only who has it imports Google's client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.errors import SettingsError
from flows.retrain import retrain
from flows.settings import Settings
from flows.vertex import VertexSettings, read_vertex_settings
from tests.python.homes import PROJECT

Profile = Any


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """Writes a profile with a part `vertex`, and gives the settings that read it."""
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path))

    def write(target: str = "prod", **vertex: Any) -> Settings:
        document = yaml.safe_load((PROJECT / "profiles.example.yml").read_text())
        document["onedeal"]["outputs"][target]["vertex"] = vertex
        (tmp_path / "profiles.yml").write_text(yaml.safe_dump(document))
        return Settings(tmp_path / "home", PROJECT, target)

    return write


def test_a_target_without_the_part_does_not_serve_there(tmp_path: Path) -> None:
    for target in ("local", "emulator"):
        assert read_vertex_settings(Settings(tmp_path, PROJECT, target)) is None


def test_the_example_is_understood_once_it_is_uncommented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = (PROJECT / "profiles.example.yml").read_text()
    start = example.index("      # vertex:")
    end = example.index("\n    # ", start)
    part = example[start:end].replace("      # ", "      ")
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path))
    (tmp_path / "profiles.yml").write_text(example)
    assert read_vertex_settings(Settings(tmp_path, PROJECT, "prod")) is None
    (tmp_path / "profiles.yml").write_text(example[:start] + part + example[end:])
    found = read_vertex_settings(Settings(tmp_path, PROJECT, "prod"))
    assert found is not None
    assert (found.location, found.registration) == ("europe-west4", "bigquery")


def test_an_empty_part_is_all_defaults(tmp_path: Path, profile: Profile) -> None:
    settings = profile()
    defaults = read_vertex_settings(settings)
    written = tmp_path / "profiles.yml"
    document = yaml.safe_load(written.read_text())
    document["onedeal"]["outputs"]["prod"]["vertex"] = None
    written.write_text(yaml.safe_dump(document))
    assert defaults is not None and read_vertex_settings(settings) == defaults


def test_texts_are_rendered_as_dbt_does(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACHINE", "n1-highmem-2")
    found = read_vertex_settings(
        profile(machine_type="{{ env_var('MACHINE') }}", canary_percent="{{ 5 * 5 }}")
    )
    assert found is not None
    assert (found.machine_type, found.canary_percent) == ("n1-highmem-2", 25)


@pytest.mark.parametrize(
    ("location", "region"), [("EU", "europe-west4"), ("US", "us-central1"), ("asia-east1",) * 2]
)
def test_the_region_is_that_of_bigquery(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, location: str, region: str
) -> None:
    monkeypatch.setenv("ONEDEAL_GCP_LOCATION", location)
    found = read_vertex_settings(profile())
    assert found == VertexSettings(location=region)


@pytest.mark.parametrize(
    ("vertex", "said"),
    [
        ({"machine": "n1"}, "there is no setting machine; there are location"),
        ({"canary_percent": 0}, "canary_percent is 0; it must be from 1 to 100"),
        ({"known_pairs": 201}, "known_pairs is 201; it must be from 1 to 200"),
        ({"min_answers": 0}, "min_answers is 0; it must be at least 1"),
        ({"soak_minutes": "nan"}, "soak_minutes is nan; it must be 0 or more"),
        ({"previous_hours": "inf"}, "previous_hours is inf; it must be 0 or more"),
        ({"operation_minutes": 0}, "operation_minutes is 0.0; it must be more than 0"),
        ({"max_error_share": 1.5}, "max_error_share is 1.5; it must be from 0 to 1"),
        ({"canary_percent": "some"}, "canary_percent is 'some', not a number"),
        ({"model_id": "1-deals"}, "model_id is '1-deals'; it must be up to 63 of a-z"),
        ({"endpoint_id": "Deals"}, "endpoint_id is 'Deals'; it must be up to 63 of a-z"),
        ({"labels": {"Budget": "x"}}, "labels is {'Budget': 'x'}; it must be of names"),
        ({"min_replicas": 2}, "max_replicas is 1; it must be at least min_replicas"),
        ({"labels": "budget"}, "labels is 'budget', not names with a value each"),
        ({"labels": {"onedeal_version": "x"}}, "it must be of other names than app and onedeal"),
        ({"model_types": None}, "model_types is None, not a list of types"),
        ({"model_types": "logistic_reg"}, "model_types is 'logistic_reg', not a list of types"),
        ({"machine_type": None}, "machine_type is ''; it must be the name of a machine type"),
        ({"min_replicas": 1.9}, "min_replicas is 1.9, not a whole number"),
        ({"location": "us-east1"}, "location is 'us-east1', but BigQuery registers its models in"),
        ({"registration": "upload"}, "it must be one of bigquery, export"),
        ({"registration": "export"}, "bucket is ''; it must be the Cloud Storage bucket"),
    ],
)
def test_what_is_wrong_is_named(profile: Profile, vertex: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_vertex_settings(profile(**vertex))
    assert said in str(refused.value)
    assert "target 'prod'" in str(refused.value)


def test_vertex_ai_serves_models_of_bigquery_only(profile: Profile) -> None:
    with pytest.raises(SettingsError, match="serves models of BigQuery only"):
        read_vertex_settings(profile(target="local"))


def test_a_model_type_that_can_not_be_served_is_refused_before_anything_is_trained(
    profile: Profile,
) -> None:
    settings = profile(
        registration="export",
        bucket="models",
        model_types=["logistic_reg", "boosted_tree_classifier"],
    )
    with pytest.raises(SettingsError, match="can't serve models of the type boosted_tree_classif"):
        # Before BigQuery is asked for anything: nothing here could reach it.
        retrain(settings)


@pytest.mark.parametrize("target", ["local", "prod"])
def test_importing_onedeal_does_not_import_googles_client(target: str, tmp_path: Path) -> None:
    """Nor does a command on `local`; it takes seconds and 200 MB."""
    code = (
        "import importlib, pkgutil, sys, flows\n"
        "skipped = ('flows.deployments', 'flows.bigquery')\n"
        "for found in pkgutil.iter_modules(flows.__path__, 'flows.'):\n"
        "    if not found.name.startswith(skipped): importlib.import_module(found.name)\n"
        "from flows.settings import Settings\n"
        "from pathlib import Path\n"
        "from flows.vertex import open_vertex\n"
        f"open_vertex(Settings(Path({str(tmp_path)!r}), Path({str(PROJECT)!r}), {target!r}))\n"
        "if Settings.from_env().target == 'local':\n"
        "    from flows.status import status; status(Settings.from_env())\n"
        "print(*[m for m in sys.modules if m.startswith('google.cloud.aiplatform')])"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PROJECT,
        env={"PATH": "", "HOME": "/nowhere", "ONEDEAL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "", "")
