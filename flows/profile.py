"""dbt's profile: where it stands, which engine a target is, and how BigQuery is reached.

The flows read what dbt reads, with dbt's own code, so that both always work on the same warehouse.
"""

from __future__ import annotations

import contextvars
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.errors import SettingsError
from flows.settings import Settings

if TYPE_CHECKING:
    from dbt.adapters.bigquery.credentials import BigQueryCredentials

PROFILE = "onedeal"
FILE = "profiles.yml"
EXAMPLE = "profiles.example.yml"
ENGINES = ("duckdb", "bigquery")
NOT_CREDENTIALS = ("type", "threads", "vertex")
"""What stands in a target beside the way to its warehouse."""


def profiles_dir(settings: Settings) -> Path:
    """The directory of the `profiles.yml` to use.

    In this order: `$DBT_PROFILES_DIR`, the project's own, `~/.dbt` where it has a profile
    `onedeal`, and else a copy of `profiles.example.yml`, made under the home directory. Raises
    SettingsError when there is none of these, or the YAML of the one to use is broken.
    """
    found = _profiles_file(settings)
    if found.name == FILE:
        return found.parent
    copied = settings.home / "dbt" / FILE
    if not copied.is_file() or copied.read_bytes() != found.read_bytes():
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, copied)
    return copied.parent


def target_type(settings: Settings) -> str:
    """The engine of the target: `duckdb` or `bigquery`, as its `type` in the profile says.

    Raises SettingsError when the profile has no such target, or one of another type.
    """
    path = _profiles_file(settings)
    profile = _read(path).get(PROFILE)
    outputs = profile.get("outputs") if isinstance(profile, dict) else None
    if not isinstance(outputs, dict):
        raise SettingsError(f"{path}: there is no profile {PROFILE} with outputs.")
    if settings.target not in outputs:
        raise SettingsError(
            f"{path}: the profile {PROFILE} has no target {settings.target!r}; it has "
            f"{', '.join(outputs)}. Name one with --target or ONEDEAL_TARGET."
        )
    kind = str((outputs[settings.target] or {}).get("type"))
    if kind not in ENGINES:
        raise SettingsError(
            f"{path}: the target {settings.target!r} is of the type {kind!r}; onedeal works on "
            f"{' and '.join(ENGINES)}."
        )
    return kind


def bigquery_credentials(settings: Settings) -> BigQueryCredentials:
    """How the target's BigQuery is reached, as dbt understands it.

    Raises SettingsError when dbt can't make sense of the target.
    """
    from dbt.adapters.bigquery.credentials import BigQueryCredentials
    from dbt_common.dataclass_schema import ValidationError
    from dbt_common.exceptions import DbtBaseException

    directory = profiles_dir(settings)

    def read() -> BigQueryCredentials:
        rendered = _rendered(settings, directory)
        told = {key: value for key, value in rendered.items() if key not in NOT_CREDENTIALS}
        data = BigQueryCredentials.translate_aliases(told)
        BigQueryCredentials.validate(data)
        found = BigQueryCredentials.from_dict(data)
        if not found.database:
            raise SettingsError(f"{directory / FILE}: target {settings.target!r} has no project.")
        return found

    try:
        with environment(settings):
            # In a context of its own: dbt's commands make theirs.
            return contextvars.copy_context().run(read)
    except (DbtBaseException, ValidationError) as error:
        reason = error.message if isinstance(error, ValidationError) else error
        raise SettingsError(f"{directory / FILE}: target {settings.target!r}: {reason}") from error


def duckdb_place(settings: Settings) -> tuple[Path, str]:
    """The file and the schema in which dbt builds on a target of DuckDB.

    Raises SettingsError when dbt can't make sense of the target.
    """
    from dbt_common.exceptions import DbtBaseException

    directory = profiles_dir(settings)
    try:
        with environment(settings):
            target = contextvars.copy_context().run(_rendered, settings, directory)
    except DbtBaseException as error:
        raise SettingsError(f"{directory / FILE}: target {settings.target!r}: {error}") from error
    return Path(str(target.get("path"))), str(target.get("schema"))


def target_part(settings: Settings, name: str) -> dict[str, Any] | None:
    """A part of the target that is onedeal's own, rendered as dbt does; None where it lacks.

    Raises SettingsError when it can't be read, or holds no settings.
    """
    outputs = _read(_profiles_file(settings)).get(PROFILE, {}).get("outputs", {})
    if name not in (outputs.get(settings.target) or {}):
        return None
    from dbt_common.exceptions import DbtBaseException

    directory = profiles_dir(settings)
    try:
        with environment(settings):
            part = contextvars.copy_context().run(_rendered, settings, directory)[name]
    except DbtBaseException as error:
        raise SettingsError(f"{directory / FILE}: target {settings.target!r}: {error}") from error
    if part is not None and not isinstance(part, dict):
        raise SettingsError(
            f"{directory / FILE}: {name} of the target {settings.target!r} is {part!r}; it must "
            "hold settings, a name and a value each."
        )
    return part or {}


def _rendered(settings: Settings, directory: Path) -> dict[str, Any]:
    """The target as dbt reads it."""
    from dbt.config.profile import Profile, read_profile
    from dbt.config.renderer import ProfileRenderer
    from dbt_common.context import set_invocation_context

    set_invocation_context(os.environ)
    raw = read_profile(str(directory))[PROFILE]
    _, rendered = Profile.render_profile(raw, PROFILE, settings.target, ProfileRenderer({}))
    return dict(rendered)


@contextmanager
def environment(settings: Settings) -> Iterator[None]:
    """What the profile and the project find in the environment: the home directory, and the run."""
    told = {
        "ONEDEAL_HOME": str(settings.home),
        "ONEDEAL_COMMAND": settings.command,
        "ONEDEAL_RUN": settings.run_id,
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _profiles_file(settings: Settings) -> Path:
    """The file that `profiles_dir` takes; reading it makes nothing."""
    told = os.environ.get("DBT_PROFILES_DIR")
    if told:
        if not (Path(told) / FILE).is_file():
            raise SettingsError(
                f"DBT_PROFILES_DIR is {told}, where no {FILE} stands. Put one there "
                f"({EXAMPLE} is a start), or unset it."
            )
        return Path(told).absolute() / FILE
    if (settings.project_dir / FILE).is_file():
        return settings.project_dir / FILE
    users = Path.home() / ".dbt" / FILE
    if _has_profile(users):
        return users
    if not (settings.project_dir / EXAMPLE).is_file():
        raise SettingsError(
            f"No dbt profile: {settings.project_dir} has neither {FILE} nor {EXAMPLE}. Write a "
            f"{FILE} with a profile called {PROFILE}."
        )
    return settings.project_dir / EXAMPLE


def _has_profile(path: Path) -> bool:
    """Whether the file, which other projects may share, has a profile `onedeal`.

    Raises SettingsError where it would have one if its YAML were not broken.
    """
    try:
        return PROFILE in _read(path)
    except SettingsError:
        text = path.read_text(encoding="utf-8")
        if re.search(rf"""^(['"]?){PROFILE}\1\s*:""", text, re.MULTILINE):
            raise
        return False


def _read(path: Path) -> dict[str, Any]:
    """The profiles of a file; none where it can't be read. Raises SettingsError for broken YAML."""
    import yaml

    try:
        profiles = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        raise SettingsError(f"{path}{line}: this is no YAML: {said}.") from error
    return profiles if isinstance(profiles, dict) else {}
