"""Promises about the repository that a machine can keep."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "serving", "duckdb_bqml")
LAYERS = (
    "staging",
    "matching",
    "features",
    "training",
    "evaluation",
    "inference",
    "monitoring",
)
# Markdown that shows commands to type.
GUIDES = ("README.md", "CONTRIBUTING.md", "docs")


@cache
def files() -> tuple[Path, ...]:
    """The repository's files: tracked, or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = listed.stdout.split("\0")
        return tuple(ROOT / name for name in names if name and (ROOT / name).is_file())
    generated = {".venv", ".onedeal", ".cache", "target", "logs", "__pycache__"}
    found = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(p for p in found if not generated & set(p.relative_to(ROOT).parts))


def texts(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Name and content of the repository's text files, this one excepted."""
    for path in files():
        if path != Path(__file__) and (not suffixes or path.suffix in suffixes):
            try:
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def offences(pattern: str, *suffixes: str) -> list[str]:
    """`file:line: text` of each line that matches."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts(*suffixes)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(*extras: str) -> list[Requirement]:
    """What `pyproject.toml` asks for: always, and with the extras."""
    project = pyproject()["project"]
    optional = project["optional-dependencies"]
    return [
        Requirement(line)
        for line in [*project["dependencies"], *(line for e in extras for line in optional[e])]
    ]


def group(name: str) -> list[Requirement]:
    """What a dependency group of `pyproject.toml` asks for."""
    return [Requirement(line) for line in pyproject()["dependency-groups"][name]]


def pins(name: str) -> list[Requirement]:
    """The pins of a file in `requirements/`."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    lines = text.replace("\\\n", " ").splitlines()
    return [Requirement(line.split(" --hash")[0]) for line in lines if line and line[0] != "#"]


def pinned_names(name: str) -> set[str]:
    return {str(canonicalize_name(pin.name)) for pin in pins(name)}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the root, outside of any `make` that runs these tests."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


# Files


def test_no_address_of_a_package_registry() -> None:
    registries = r"(pypi|pythonhosted|npmjs|crates|proxy\.golang|maven)\.\w"
    assert offences(registries) == []
    assert offences(r"--(extra-)?index-url|--find-links|--trusted-host") == []
    for name in ("local", "dev", "gcp", "serving", "emulator", "benchmark", "audit"):
        assert "://" not in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def test_no_settings_of_one_machine() -> None:
    names = {str(path.relative_to(ROOT)) for path in files()}
    assert not names & {"profiles.yml", ".user.yml"}
    assert not [name for name in names if name.endswith((".duckdb", ".wal"))]


def test_nothing_is_left_to_be_done() -> None:
    assert offences(r"\b(TODO|FIXME|XXX)\b|NotImplementedError") == []
    assert offences(r"pytest\.(skip|xfail|mark\.(skip|xfail))|importorskip", ".py") == []


def test_links_in_the_documentation_lead_somewhere() -> None:
    dead = [
        f"{name}: {link}"
        for name, text in texts(".md")
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        if not (ROOT / name).parent.joinpath(link).exists()
    ]
    assert dead == []


# Versions and requirements


def test_one_version() -> None:
    version = pyproject()["project"]["version"]
    dbt_project = yaml.safe_load((ROOT / "dbt_project.yml").read_text(encoding="utf-8"))
    assert dbt_project["version"] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    # Before the first release the version is the one being worked on.
    assert headings[1:2] in ([], [version])


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("local", requirements("local", "serving")),
        ("dev", requirements("local", "gcp", "serving", "dev")),
        ("gcp", requirements("gcp")),
        ("serving", requirements("local", "gcp", "serving")),
        ("emulator", group("emulator")),
        ("benchmark", group("benchmark")),
        ("audit", group("audit")),
    ],
    ids=["local", "dev", "gcp", "serving", "emulator", "benchmark", "audit"],
)
def test_pins_are_those_of_pyproject(name: str, asked: list[Requirement]) -> None:
    for wanted in asked:
        found = [
            p for p in pins(name) if canonicalize_name(p.name) == canonicalize_name(wanted.name)
        ]
        assert found, f"requirements/{name}.txt lacks {wanted.name}: run make lock"
        versions = [next(iter(pin.specifier)).version for pin in found]
        assert any(wanted.specifier.contains(v) for v in versions), f"{wanted}: run make lock"


def test_developers_have_the_pins_that_users_have() -> None:
    # The markers may differ: what more there is to install may need a package in more places.
    local, dev = ({f"{pin.name}{pin.specifier}" for pin in pins(name)} for name in ("local", "dev"))
    assert local <= dev


def test_an_install_stays_small() -> None:
    assert not [n for n in pinned_names("local") if n.startswith(("google-", "grpcio"))]
    assert not pinned_names("local") & {"pytest", "mypy", "ruff", "sqlfluff", "uv", "xgboost"}
    assert not pinned_names("gcp") & {"duckdb", "dbt-duckdb", "scikit-learn", "xgboost-cpu"}
    assert not [n for n in pinned_names("dev") if n.startswith("nvidia-")]


def test_what_is_installed_fits_together() -> None:
    result = run(sys.executable, "-m", "pip", "check")
    assert result.returncode == 0, result.stdout


# Make, and the commands that the documentation shows


def make_targets() -> list[str]:
    result = run("make", "help")
    assert result.returncode == 0, result.stderr
    return [line.split()[0] for line in result.stdout.splitlines()]


def test_make_help_lists_targets_that_exist() -> None:
    targets = make_targets()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony and sorted(phony[1].split()) == sorted(targets)
    result = run("make", "--dry-run", *targets)
    assert result.returncode == 0, result.stderr


def shown_commands() -> list[tuple[str, list[str]]]:
    """File and words of each `make` and `onedeal` command in the guides' shell blocks."""
    found = []
    for name, text in texts(".md"):
        if not name.startswith(GUIDES):
            continue
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for block in (content for language, content in blocks if language in ("", "sh")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True) or [""]
                if words[0] in ("make", "onedeal"):
                    found.append((name, words))
    return found


def test_an_environment_that_failed_is_made_anew(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    # As where Debian's package python3-venv is not installed.
    halfway = tmp_path / "halfway"
    halfway.write_text(
        f'#!/bin/sh\n{sys.executable} "$@" || exit\n[ "$2" != venv ] || exit 1\n',
        encoding="utf-8",
    )
    halfway.chmod(0o755)
    python = tmp_path / ".venv" / "bin" / "python"
    command = ("make", "-C", str(tmp_path), ".venv/bin/python")
    assert run(*command, f"PYTHON={halfway}").returncode != 0
    assert not python.exists()
    assert run(*command, f"PYTHON={sys.executable}").returncode == 0
    assert python.exists()


def test_commands_in_the_guides_exist() -> None:
    from flows.cli import app

    targets = make_targets()
    root = typer.main.get_command(app)
    unknown = []
    for name, words in shown_commands():
        if words[0] == "make":
            named = [word for word in words[1:] if "=" not in word and word[0] != "-"]
            known = set(named) <= set(targets)
        else:
            known = is_command(root, words[1:])
        if not known:
            unknown.append(f"{name}: {' '.join(words)}")
    assert unknown == []


def is_command(command: Any, words: list[str]) -> bool:
    """Whether the words name a command of the tree, with options that it has."""
    while words and words[0] in (below := getattr(command, "commands", {})):
        command, words = below[words[0]], words[1:]
    if hasattr(command, "commands") and any(word[0] != "-" for word in words):
        return False
    options = {"--help", *(name for parameter in command.params for name in parameter.opts)}
    options |= {name for parameter in command.params for name in parameter.secondary_opts}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    return used <= options


# Python: who may import what


def imports(path: Path) -> set[str]:
    """Names of the modules a file imports, wherever it does, other than for types alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def modules(package: str) -> list[Path]:
    return [p for p in files() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] == package]


@cache
def providers() -> Mapping[str, list[str]]:
    """The distributions that provide a module, which takes half a second to find out."""
    return metadata.packages_distributions()


def distributions(names: set[str]) -> set[str]:
    """The distributions that provide these modules, without the standard library and our own."""
    provided = providers()
    found = set()
    for name in names:
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top in PACKAGES:
            continue
        owners = set(provided[top])
        if len(owners) > 1:
            # A namespace, such as google.
            path = name.replace(".", "/")
            files = (f"{path}.py", f"{path}/__init__.py")
            owners = {
                owner
                for owner in owners
                if any(file.as_posix() in files for file in metadata.files(owner) or ())
            }
        found |= {str(canonicalize_name(owner)) for owner in owners}
    return found


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("flows", ["local", "gcp"]),
        ("serving", ["local", "gcp", "serving"]),
        ("duckdb_bqml", ["local"]),
    ],
)
def test_imports_are_declared(package: str, extras: list[str]) -> None:
    assert modules(package)
    declared = {str(canonicalize_name(r.name)) for r in requirements(*extras)}
    for path in modules(package):
        # dbt is a namespace that its adapters share.
        needed = distributions({name for name in imports(path) if name[:4] != "dbt."})
        assert needed <= declared, f"{path.name} imports {sorted(needed - declared)}"


def test_arrows_run_one_way() -> None:
    for path in modules("duckdb_bqml"):
        assert not {n.split(".")[0] for n in imports(path)} & {"flows", "serving"}, path.name
    for path in modules("flows"):
        if path.name != "cli.py":
            assert "serving" not in {n.split(".")[0] for n in imports(path)}, path.name
        if path.name != "deployments.py":
            assert not {n for n in imports(path) if n.startswith("prefect")}, path.name


def test_the_service_runs_no_flow() -> None:
    runs = {
        "flows." + name for name in ("cli", "demo", "deployments", "ingest", "retrain", "score")
    }
    runs |= {"flows.rollback", "flows.deploy", "flows.dbt", "flows.evaluate", "flows.status"}
    for path in modules("serving"):
        assert not imports(path) & runs, path.name


def test_flows_import_no_engine_at_the_start() -> None:
    """A BigQuery user has no scikit-learn, a DuckDB user no Google library; the start is quick."""
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in modules("flows")
        if p.name not in ("__init__.py", "deployments.py") and p.name[:8] != "bigquery"
    ]
    engines = ["duckdb", "duckdb_bqml", "sklearn", "scipy", "xgboost", "google.cloud", "prefect"]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({engines}))\n"
        f"for name in {names}: importlib.import_module(name)"
    )
    result = run(sys.executable, "-W", "error", "-c", code)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_command_starts_without_dbt_and_plots() -> None:
    code = "import sys, flows.cli; print(*sorted(sys.modules), sep='\\n')"
    result = run(sys.executable, "-W", "error", "-c", code)
    assert (result.returncode, result.stderr) == (0, "")
    loaded = set(result.stdout.split())
    assert not {name for name in loaded if name.startswith(("dbt.", "matplotlib", "pandas"))}


# dbt: the project as dbt itself reads it


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The parsed project, through the example profile; every warning and deprecation an error."""
    from dbt.cli.main import dbtRunner
    from dbt.jsonschemas import jsonschemas

    home = tmp_path_factory.mktemp("parse")
    shutil.copyfile(ROOT / "profiles.example.yml", home / "profiles.yml")
    with pytest.MonkeyPatch.context() as patch:
        # dbt looks for deprecations only where it knows the adapter's own settings.
        adapters = jsonschemas._JSONSCHEMA_SUPPORTED_ADAPTERS | {"duckdb"}
        patch.setattr(jsonschemas, "_JSONSCHEMA_SUPPORTED_ADAPTERS", adapters)
        patch.setenv("ONEDEAL_HOME", str(home))
        result = dbtRunner().invoke(
            [
                *(
                    "parse",
                    "--quiet",
                    "--log-level-file",
                    "none",
                    "--no-partial-parse",
                    "--warn-error",
                ),
                *("--project-dir", str(ROOT), "--profiles-dir", str(home)),
                *("--target", "local", "--target-path", str(home / "target")),
                *("--log-path", str(home / "logs"), "--no-version-check"),
            ]
        )
    assert result.success, result.exception
    return result.result


def test_dbt_resources_are_described(manifest: Any) -> None:
    bare = []
    described = [*manifest.nodes.values(), *manifest.sources.values(), *manifest.exposures.values()]
    for node in described:
        if node.resource_type in ("model", "source", "exposure", "seed"):
            bare += [node.name] if not node.description.strip() else []
            columns = getattr(node, "columns", {}).values()
            bare += [f"{node.name}.{c.name}" for c in columns if not c.description.strip()]
    own = [macro for macro in manifest.macros.values() if macro.package_name == "onedeal"]
    # An implementation for one engine is described with the macro that dispatches to it.
    parts = ("default__", "bigquery__", "duckdb__", "materialization_", "test_")
    bare += [m.name for m in own if not m.name.startswith(parts) and not m.description.strip()]
    assert bare == []


def own_models(manifest: Any) -> list[Any]:
    return [node for node in manifest.nodes.values() if node.resource_type == "model"]


def test_models_stand_in_their_folders_yaml_and_are_tested(manifest: Any) -> None:
    tested = {
        parent
        for node in manifest.nodes.values()
        if node.resource_type == "test"
        for parent in node.depends_on.nodes
    }
    for model in own_models(manifest):
        folder = Path(model.original_file_path).parent
        expected = f"onedeal://{folder}/_{folder.name}__models.yml"
        assert model.patch_path == expected, model.name
        # BigQuery can't select from an ML model: its weights, beside it, are tested.
        if model.config.materialized != "model":
            assert model.unique_id in tested, f"{model.name} has no data test"


def test_models_read_from_their_own_layer_or_an_earlier_one(manifest: Any) -> None:
    layer = {m.unique_id: LAYERS.index(m.fqn[1]) for m in own_models(manifest)}
    wrong = [
        f"{model.name} ({model.fqn[1]}) reads {parent.split('.')[-1]}"
        for model in own_models(manifest)
        for parent in model.depends_on.nodes
        if parent in layer and layer[parent] > layer[model.unique_id]
    ]
    assert wrong == []


def test_a_model_does_not_ask_which_target_it_runs_on() -> None:
    asked = [o for o in offences(r"\btarget\.\w|adapter\.type", ".sql") if o[:7] != "macros/"]
    assert asked == []
