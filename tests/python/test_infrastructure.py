"""What infra/ sets up is what the rest of the project reads, names and documents."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from flows.vertex import REGIONS
from serving.access import HEALTH, PUBSUB
from serving.settings import ServingSettings
from serving.triggers import KIND

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
APIS = {
    "google_bigquery_": "bigquery",
    "google_cloud_run_": "run",
    "google_cloud_scheduler_": "cloudscheduler",
    "google_project_iam_custom_role": "iam",
    "google_project_iam_member": "cloudresourcemanager",
    "google_pubsub_": "pubsub",
    "google_secret_manager_": "secretmanager",
    "google_service_account": "iam",
    "google_storage_": "storage",
}
"""The API that a resource is made with, by the beginning of its type."""
PLACES = {
    "google_project_iam_member": "project",
    "google_bigquery_dataset_iam_member": "dataset",
    "google_storage_bucket_iam_member": "bucket",
    "google_secret_manager_secret_iam_member": "secret",
}
"""What a grant is on, in the word that the documentation's table has for it."""

Block = dict[str, Any]


@cache
def sources() -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in sorted((ROOT / "infra").glob("*.tf"))}


@cache
def parsed() -> dict[str, list[Block]]:
    """The blocks of all files, by their kind; expressions are `${...}`."""
    options = hcl2.SerializationOptions(
        with_comments=False, explicit_blocks=False, strip_string_quotes=True
    )
    found: dict[str, list[Block]] = defaultdict(list)
    for text in sources().values():
        for kind, blocks in hcl2.loads(text, serialization_options=options).items():
            found[kind] += blocks
    return found


def resources(prefix: str = "") -> list[tuple[str, str, Block]]:
    """Type, name and content."""
    return [
        (kind, name, body)
        for block in parsed()["resource"]
        for kind, named in block.items()
        for name, body in named.items()
        if kind.startswith(prefix)
    ]


def resource(kind: str, name: str) -> Block:
    return next(body for k, n, body in resources() if (k, n) == (kind, name))


def local(name: str) -> Any:
    return next(block[name] for block in parsed()["locals"] if name in block)


def service() -> Block:
    template: Block = resource("google_cloud_run_v2_service", "onedeal")["template"][0]
    return template


def container() -> Block:
    found: Block = service()["containers"][0]
    return found


def quoted(expression: str) -> set[str]:
    return set(re.findall(r'"([^"]*)"', expression))


def document(name: str, *, section: str = "") -> str:
    text = (DOCS / name).read_text(encoding="utf-8")
    return text.split(f"## {section}\n")[1].split("\n## ")[0] if section else text


def roles_named(text: str) -> set[str]:
    return set(re.findall(r"`(roles/[\w.]+)`", text))


# Who may do what


def grants() -> set[tuple[str, str, str]]:
    """Account, role (or permissions, of a role of our own) and what it is on."""
    found = set()
    for kind, _, body in resources():
        if not kind.endswith("_iam_member"):
            continue
        account = re.search(r"google_service_account\.(\w+)", body["member"])
        assert account, body
        name = resource("google_service_account", account[1])["account_id"]
        custom = re.search(r"google_project_iam_custom_role\.(\w+)", body["role"])
        if custom:
            roles = set(resource("google_project_iam_custom_role", custom[1])["permissions"])
        elif body["role"] == "${each.value}":
            roles = {value for value in quoted(body["for_each"]) if value.startswith("roles/")}
        else:
            roles = {body["role"]}
        assert roles, body
        found |= {(name, role, place) for role in roles for place in places(kind, body)}
    return found


def places(kind: str, body: Block) -> set[str]:
    if kind != "google_bigquery_dataset_iam_member":
        return {PLACES[kind]}
    named = quoted(body["for_each"])
    return named or quoted(local("datasets"))


def documented_grants() -> set[tuple[str, str, str]]:
    """The rows of the table in docs/google-cloud.md."""
    found = set()
    for line in document("google-cloud.md", section="As code").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or not cells[0].startswith("`"):
            continue
        account, rights, on = cells[0].strip("`"), cells[1], cells[2]
        named = set(re.findall(r"`([\w./]+)`", on))
        if "four datasets" in on:
            named = quoted(local("datasets"))
        where = named or {next(place for place in PLACES.values() if place in on)}
        rights_named = re.findall(r"`((?:roles/|aiplatform\.)[\w.]+)`", rights)
        assert rights_named, line
        found |= {(account, right, place) for right in rights_named for place in where}
    return found


def test_the_documentation_names_each_grant_and_no_other() -> None:
    assert grants() == documented_grants()


def test_roles_are_those_that_the_documentation_asks_for() -> None:
    by_hand = document("google-cloud.md", section="1. The project")
    table = "\n".join(line for line in by_hand.splitlines() if line.startswith("| `roles/"))
    asked = roles_named(table)
    for name in ("vertex-ai.md", "serving.md", "prediction-log.md"):
        asked |= roles_named(document(name))
    granted = {right for _, right, _ in grants() if right.startswith("roles/")}
    # The service's own secrets are no part of an installation by hand.
    assert granted - {"roles/secretmanager.secretAccessor"} == asked


def test_the_endpoint_is_asked_with_the_permissions_that_the_documentation_names() -> None:
    asking = document("vertex-ai.md", section="Asking the endpoint")
    role = resource("google_project_iam_custom_role", "endpoint")
    assert set(role["permissions"]) == set(re.findall(r"`(aiplatform\.endpoints\.\w+)`", asking))


# Datasets


def test_datasets_are_those_of_the_profile_and_the_sources() -> None:
    profile = yaml.safe_load((ROOT / "profiles.example.yml").read_text(encoding="utf-8"))
    contract = ROOT / "models" / "staging" / "_staging__sources.yml"
    schemas = {s["schema"] for s in yaml.safe_load(contract.read_text(encoding="utf-8"))["sources"]}
    expected = {profile["onedeal"]["outputs"]["prod"]["dataset"], *schemas}
    assert quoted(local("datasets")) == expected


def test_nothing_that_holds_deals_is_deleted_by_default() -> None:
    assert variables()["deletion_protection"]["default"] is True
    kept = "${!var.deletion_protection}"
    dataset = resource("google_bigquery_dataset", "onedeal")
    assert dataset["delete_contents_on_destroy"] == kept
    assert resource("google_storage_bucket", "artifacts")["force_destroy"] == kept


# The service


def environments() -> list[set[str]]:
    """The variables that the service always has, and then those of each option."""
    groups = re.findall(r"\{([A-Z][^{}]*)\}", local("environment"))
    secret = set(re.findall(r"\b([A-Z][A-Z_]+) = \{", local("secret_environment")))
    found = [set(re.findall(r"\b([A-Z][A-Z_]+) =", group)) for group in groups]
    assert len(found) == 3 and secret
    return [found[0] | secret, *found[1:]]


def test_each_variable_is_one_that_is_read() -> None:
    readers = [*(ROOT / "flows").glob("*.py"), *(ROOT / "serving").glob("*.py")]
    texts = [p.read_text(encoding="utf-8") for p in [*readers, ROOT / "profiles.example.yml"]]
    read = {name for text in texts for name in re.findall(r"""["']([A-Z][A-Z_]+)["']""", text)}
    assert set().union(*environments()) - read == set()


def test_what_the_profile_reads_is_set() -> None:
    profile = yaml.safe_load((ROOT / "profiles.example.yml").read_text(encoding="utf-8"))
    read = re.findall(r"env_var\('(\w+)'", str(profile["onedeal"]["outputs"]["prod"]))
    assert read and set(read) <= environments()[0]


def test_the_service_takes_its_settings_with_and_without_each_option() -> None:
    always, *options = environments()
    for chosen in ([], *([option] for option in options), options):
        names = always.union(*chosen)
        # One value that is allowed for all of them.
        ServingSettings.from_env(dict.fromkeys(names, "retrain/daily"))


def test_the_profile_lies_where_the_service_looks_for_it() -> None:
    secret = service()["volumes"][0]["secret"][0]
    assert [item["path"] for item in secret["items"]] == ["profiles.yml"]
    mount = container()["volume_mounts"][0]
    assert mount["name"] == service()["volumes"][0]["name"]
    assert mount["mount_path"] == "${local.profiles_dir}"
    assert "DBT_PROFILES_DIR = local.profiles_dir" in local("environment")


@pytest.mark.parametrize(("probe", "path"), [("startup", "/ready"), ("liveness", "/healthz")])
def test_probes_ask_what_the_service_answers_without_a_key(probe: str, path: str) -> None:
    asked = container()[f"{probe}_probe"][0]
    assert asked["http_get"] == [{"path": path, "port": ServingSettings().port}]
    assert path in HEALTH
    assert f"--{probe}-probe=httpGet.path={path}" in document("serving.md")
    # Cloud Run waits no longer.
    assert asked["period_seconds"] * asked["failure_threshold"] <= 240
    assert asked["timeout_seconds"] <= asked["period_seconds"]


def test_the_image_listens_where_it_is_asked() -> None:
    port = container()["ports"][0]["container_port"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"EXPOSE {port}\n" in dockerfile and port == ServingSettings().port


def test_resources_are_those_that_the_documentation_advises() -> None:
    advised = document("serving.md", section="In a container")
    resources_ = container()["resources"][0]
    assert f"`--cpu={resources_['limits']['cpu']}`" in advised
    assert resources_["cpu_idle"] is False and "`--no-cpu-throttling`" in advised
    assert f"`--concurrency={service()['max_instance_request_concurrency']}`" in advised
    assert f"`--min-instances={service()['scaling'][0]['min_instance_count']}`" in advised


def test_an_empty_part_vertex_counts_as_it_does_for_the_commands() -> None:
    lifecycle = resource("google_secret_manager_secret_version", "profiles")["lifecycle"][0]
    part = "yamldecode(file(local.profiles)).onedeal.outputs.prod.vertex"
    assert lifecycle["precondition"][0]["condition"] == f"${{can({part}) == var.vertex}}"


def test_messages_go_to_the_route_that_takes_them() -> None:
    assert local("push").endswith(f'"${{local.address}}{PUBSUB}" : null}}')
    push = resource("google_pubsub_subscription", "onedeal")["push_config"][0]
    # The service compares the audience with ONEDEAL_PUBSUB_AUDIENCE, letter by letter.
    assert push["push_endpoint"] == push["oidc_token"][0]["audience"] == "${local.push}"
    assert "ONEDEAL_PUBSUB_AUDIENCE = local.push" in local("environment")
    job = resource("google_cloud_scheduler_job", "onedeal")
    assert job["pubsub_target"][0]["attributes"] == {"kind": KIND}


def test_trainings_have_one_schedule_by_default() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    (retrain,) = [one for one in deployments if one["entrypoint"].endswith(".retrain")]
    assert retrain["schedules"]
    assert variables()["schedule"]["default"] is None
    job = resource("google_cloud_scheduler_job", "onedeal")
    assert job["count"] == "${local.scheduled ? 1 : 0}"
    assert local("scheduled") == "${local.triggered && var.schedule != null}"


def test_no_secret_stands_in_the_state() -> None:
    versions = resources("google_secret_manager_secret_version")
    assert len(versions) == 2
    for _, name, body in versions:
        assert "secret_data" not in body and body["secret_data_wo"], name
    assert not [kind for kind, _, _ in resources() if kind.startswith("random_")]


# The module itself


def test_the_apis_enabled_are_those_of_the_resources() -> None:
    enabled = quoted(local("apis")) | {resource("google_project_service", "project")["service"]}
    needed = {
        next((api for prefix, api in APIS.items() if kind.startswith(prefix)), kind)
        for kind, _, _ in resources()
        if kind != "google_project_service"
    }
    needed |= {"aiplatform" for _, right, _ in grants() if "aiplatform." in right}
    assert enabled == {f"{api}.googleapis.com" for api in needed}


def variables() -> dict[str, Block]:
    return {name: body for block in parsed()["variable"] for name, body in block.items()}


def test_variables_are_described_typed_and_used() -> None:
    used = set()
    for name, text in sources().items():
        if name != "variables.tf":
            used |= set(re.findall(r"\bvar\.(\w+)", text))
    assert used == set(variables())
    for name, body in variables().items():
        assert body["description"].endswith(".") and body["type"], name
    assert all(o["description"] for block in parsed()["output"] for o in block.values())


def test_the_documentation_names_variables_and_outputs_that_exist() -> None:
    section = document("google-cloud.md", section="As code")
    named = set(re.findall(r"-var '?(\w+)=|^(\w+) += ", section, re.MULTILINE))
    assert {"project", "image"} <= {name for pair in named for name in pair if name}
    assert {name for pair in named for name in pair if name} <= set(variables())
    shown = set(re.findall(r"terraform -chdir=infra output -raw (\w+)", section))
    assert shown and shown <= {name for block in parsed()["output"] for name in block}


def test_what_the_profile_takes_by_default_is_the_default_here() -> None:
    profile = (ROOT / "profiles.example.yml").read_text(encoding="utf-8")
    location = re.search(r"'ONEDEAL_GCP_LOCATION', '(\w+)'", profile)
    assert location and variables()["location"]["default"] == location[1]


def test_all_else_is_by_default_where_vertex_ai_has_the_models() -> None:
    assert variables()["region"]["default"] is None
    multi_regions = ", ".join(f'{place} = "{region}"' for place, region in REGIONS.items())
    assert f"lookup({{{multi_regions}}}, var.location, var.location)" in local("region")
    for name, text in sources().items():
        assert "var.region" not in text or name in ("variables.tf", "project.tf")
    for place, region in REGIONS.items():
        assert re.search(rf"\b{place} (?:are )?in `{region}`", document("vertex-ai.md"))
