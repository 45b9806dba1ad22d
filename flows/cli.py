"""The command `onedeal`.

Only what shows help is imported here; a command imports its flow when it runs.
"""

from __future__ import annotations

import getpass
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from flows import __version__
from flows.errors import OnedealError

if TYPE_CHECKING:
    from flows.console import Output, Progress
    from flows.settings import Settings
    from serving.keys import Keys

EXIT_CODES = (
    "**Exit codes**: 0 done; 1 failed; 2 wrong usage; 3 nothing to do; "
    "4 input refused; 5 another command is at work; 130 stopped with Ctrl-C."
)

CLEARING_UP_SECONDS = 10.0
"""How long further Ctrl-Cs count as the first one."""
STOPPED = "Stopped. The champion stays; the next command finishes or clears up what was begun."


class Commands(TyperGroup):
    """Turns expected errors into one message and an exit code, and unexpected ones into a log."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order in which one meets them."""
        order = [
            *("demo", "ingest", "retrain", "score", "serve", "keys"),
            *("evaluate", "status", "rollback", "promote"),
        ]
        return sorted(super().list_commands(ctx), key=order.index)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with _stoppable():
                return super().invoke(ctx)
        except OnedealError as error:
            _stderr(str(error))
            raise typer.Exit(error.exit_code) from error
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            _stderr(STOPPED)
            raise typer.Exit(130) from None
        except Exception as error:
            if isinstance(error, RuntimeError) and str(error) == "Query interrupted":
                # DuckDB's words for Ctrl-C.
                _stderr(STOPPED)
                raise typer.Exit(130) from None
            # Usage errors are the library's own, and it shows them well.
            if hasattr(error, "exit_code"):
                raise
            _stderr(_unexpected(error))
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    help=(
        "Find the deals that are one, and keep finding them.\n\n"
        "onedeal compares the deals of your CRM, groups those that were keyed twice, and learns "
        "from every verdict a person gives. A first round:\n\n"
        "    onedeal ingest deals opportunities.csv\n"
        "    onedeal ingest labels verdicts.csv\n"
        "    onedeal retrain\n"
        "    onedeal status\n\n"
        "Or see it work on generated deals: `onedeal demo`.\n\n"
        "State (the warehouse file, models, reports) lives under `ONEDEAL_HOME`, by default "
        "`.onedeal/` in the project."
    ),
    epilog=EXIT_CODES,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ingest_app = typer.Typer(
    help="Read export files into the warehouse: deals, or verdicts on pairs of deals.",
    epilog=EXIT_CODES,
    rich_markup_mode="markdown",
    no_args_is_help=True,
)
app.add_typer(ingest_app, name="ingest")
keys_app = typer.Typer(
    help="API keys of the prediction service: make, list, revoke.",
    epilog=EXIT_CODES,
    rich_markup_mode="markdown",
    no_args_is_help=True,
)
app.add_typer(keys_app, name="keys")

Target = Annotated[
    str | None,
    typer.Option(
        help="The dbt target to work on; by default `local`, or ONEDEAL_TARGET.",
        show_default=False,
        metavar="NAME",
    ),
]
Mapping = Annotated[
    str | None,
    typer.Option(
        help="A mapping file, or the name of a shipped one. By default the one that fits.",
        show_default=False,
        metavar="NAME|PATH",
    ),
]
Splits = Annotated[
    list[str] | None,
    typer.Option(
        help="Take only rows whose column `split` holds this word. May be given several times.",
        show_default=False,
        metavar="NAME",
    ),
]
Again = Annotated[
    bool,
    typer.Option(
        "--again", help="Read files that were ingested before, too, and let what they say count."
    ),
]


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"onedeal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@ingest_app.command(
    "deals",
    epilog="Exit codes: 0 every file was read, now or before (rows that could not be are reported, "
    "and kept in raw_deals_rejected); 4 a file was refused, and nothing of it was kept; 5 another "
    "command is at work; 1 failed.",
)
def ingest_deals(
    files: Annotated[list[Path], typer.Argument(help="CSV, Parquet or JSON lines files.")],
    mapping: Mapping = None,
    again: Again = False,
    target: Target = None,
) -> None:
    """Read exports of deals.

    The columns of HubSpot and Salesforce exports are known, and those of the plain contract; for
    another export, write a mapping file. A file is read whole or not at all, and only once: the
    same file again adds nothing, unless with --again.

    Example: `onedeal ingest deals hubspot-deals.csv --mapping hubspot`
    """
    from flows.ingest import FilesRefused, NotPublished
    from flows.ingest import ingest_deals as ingest

    settings, progress, output = _setup(target)
    try:
        output.ingest(ingest(settings, files, mapping, progress.tell, again=again))
    except (FilesRefused, NotPublished) as refused:
        output.ingest(refused.report)
        raise


@ingest_app.command(
    "labels",
    epilog="Exit codes: 0 every file was read, now or before; 4 a file was refused, and nothing "
    "of it was kept; 5 another command is at work; 1 failed.",
)
def ingest_labels(
    files: Annotated[list[Path], typer.Argument(help="CSV, Parquet or JSON lines files.")],
    mapping: Mapping = None,
    split: Splits = None,
    again: Again = False,
    target: Target = None,
) -> None:
    """Read verdicts on pairs of deals.

    A file needs the columns deal_id_a, deal_id_b and is_duplicate. The newest verdict on a pair
    counts. Without any, the first model is estimated from the deals alone; from about a hundred on,
    some of them of deals that only look alike, a model learns from them.

    Example: `onedeal ingest labels verdicts.csv`
    """
    from flows.ingest import FilesRefused
    from flows.ingest import ingest_labels as ingest

    settings, progress, output = _setup(target)
    try:
        output.ingest(ingest(settings, files, mapping, progress.tell, split=split, again=again))
    except FilesRefused as refused:
        output.ingest(refused.report)
        raise


@app.command(
    epilog="Exit codes: 0 a candidate was promoted or rejected; 3 nothing to train on (0 with "
    "--if-fresh); 5 another command is at work; 1 failed, and the champion stays."
)
def retrain(
    force: Annotated[
        bool,
        typer.Option("--force", help="Train although nothing is new or the data is stale."),
    ] = False,
    if_fresh: Annotated[
        bool,
        typer.Option(
            "--if-fresh",
            help="For schedulers: exit 0 where nothing is trained, as where the deals are stale.",
        ),
    ] = False,
    target: Target = None,
) -> None:
    """Train on what is new, and deploy the model if it is better.

    Three candidates are made, one of which needs no labels. The best one and the champion are
    judged on the same labelled pairs; a gate promotes the candidate only if it is better with
    confidence, or no worse and taught by many more labels, and says why. Then all pairs are scored,
    duplicates grouped, and a report is written. Where no deal and no label came since the last
    decision, nothing is trained. A run that was killed is finished by the next.

    Example: `onedeal retrain --if-fresh`
    """
    from flows.retrain import retrain as run_retrain

    settings, progress, output = _setup(target)
    result = run_retrain(settings, force=force, run=progress, on_node=progress.on_node)
    output.retrain(result)
    if result.decision is None and not if_fresh:
        raise typer.Exit(3)


@app.command(
    epilog="Exit codes: 0 scored; 3 there is no champion yet; 5 another command is at work; "
    "1 failed."
)
def score(target: Target = None) -> None:
    """Score the pairs of today's deals with the champion.

    Takes in deals that were ingested since, compares them, groups the duplicates (with the deal
    that should survive, and why), and fills the review queue. Trains nothing.

    Example: `onedeal score`
    """
    from flows.score import score as run_score

    settings, progress, output = _setup(target)
    output.score(run_score(settings, run=progress, on_node=progress.on_node))


@app.command(epilog="Exit codes: 0 stopped by a signal, all requests answered; 1 failed.")
def serve(
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to listen on; by default 127.0.0.1, or ONEDEAL_HOST.",
            show_default=False,
            metavar="ADDRESS",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="The port to listen on; by default 8080, or PORT. 0 takes a free one.",
            show_default=False,
            min=0,
            max=65535,
        ),
    ] = None,
    target: Target = None,
) -> None:
    """Answer which known deals a new one duplicates, over HTTP.

    POST /v1/match takes a deal and gives its likely duplicates, with probability and reasons; every
    answer goes to the prediction log. POST /v1/verdicts takes people's verdicts for the next
    training, and so does the review page, /review, which asks about the pairs of the review queue.
    It serves the champion, and takes a new one over by itself. SIGTERM ends it within 10 seconds.
    docs/serving.md has the settings.

    Example: `ONEDEAL_API_KEY=$(openssl rand -hex 32) onedeal serve`
    """
    from serving.run import run
    from serving.settings import ServingSettings

    settings, _, _ = _setup(target)
    run(settings, ServingSettings.from_env(host=host, port=port))


@keys_app.command(
    "create", epilog="Exit codes: 0 made; 4 the name is not allowed, or has a key; 1 failed."
)
def create_key(
    name: Annotated[
        str, typer.Argument(help="Whose key it is: a program, not a person.", show_default=False)
    ],
) -> None:
    """Make a key for a client and write it to standard output. It is shown this once.

    Kept is its hash. A running service takes it within a second.

    Example: `onedeal keys create crm-plugin`
    """
    typer.echo(_keys().create(name))
    _stderr(f"This is the key of {name}. It is not kept, so keep it.")


@keys_app.command("list", epilog="Exit codes: 0 shown; 1 failed.")
def list_keys() -> None:
    """Show whose keys there are, and which were revoked.

    Example: `onedeal keys list`
    """
    _, _, output = _setup(None)
    keys = _keys().all()
    output.table(
        (
            key.name,
            f"{key.start}..., made {key.created_at}"
            + (f", revoked {key.revoked_at}" if key.revoked_at else ""),
        )
        for key in keys
    )
    if not keys:
        output.say("There are no keys. `onedeal keys create NAME` makes one.")


@keys_app.command("revoke", epilog="Exit codes: 0 revoked; 3 there is no such key; 1 failed.")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.", show_default=False)],
) -> None:
    """Close a client's key. A running service refuses it within a second.

    Example: `onedeal keys revoke crm-plugin`
    """
    _keys().revoke(name)
    _stderr(f"The key of {name} opens nothing any more.")


@app.command(
    epilog="Exit codes: 0 evaluated; 3 there is no champion yet; 4 the file was refused; "
    "5 another command is at work; 1 failed."
)
def evaluate(
    labels: Annotated[
        Path,
        typer.Argument(
            help="CSV, Parquet or JSON lines with deal_id_a, deal_id_b, is_duplicate.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write every pair with its probability to this CSV file.",
            show_default=False,
            metavar="FILE",
        ),
    ] = None,
    split: Splits = None,
    mapping: Mapping = None,
    target: Target = None,
) -> None:
    """Measure the champion on a file of labelled pairs.

    The pairs may be any two ingested deals, whether blocking finds them or not. Shown are
    precision, recall and F1 at the champion's threshold, and average precision. FILE gets the
    columns deal_id_a, deal_id_b, is_duplicate, probability, predicted_is_duplicate.

    Pairs that were ingested as labels before the champion was trained taught it: it looks better
    on them than it is.

    Example: `onedeal evaluate test-pairs.csv --out predictions.csv`
    """
    from flows.evaluate import evaluate as run_evaluate

    settings, progress, output = _setup(target)
    result = run_evaluate(
        settings,
        labels,
        out=out,
        mapping=mapping,
        split=split,
        run=progress,
        on_node=progress.on_node,
    )
    output.evaluation(result)
    if out is not None:
        output.say(f"Predictions: {out}")


@app.command(epilog="Exit codes: 0 shown; 5 another command has the warehouse open; 1 failed.")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Write it as JSON.")] = False,
    target: Target = None,
) -> None:
    """Show the champion, the last decisions, and what is waiting.

    Changes nothing.

    Example: `onedeal status`
    """
    from flows.status import status as read_status

    settings, _, output = _setup(target)
    found = read_status(settings)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(found), default=str, indent=2))
    else:
        output.status(found)


@app.command(
    epilog="Exit codes: 0 rolled back; 3 there is nothing to roll back to; 4 the version can't be "
    "deployed; 5 another command is at work; 1 failed."
)
def rollback(
    version: Annotated[
        str | None,
        typer.Argument(help="The version; by default the champion before.", show_default=False),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Who asks for it; by default you.", show_default=False, metavar="NAME"),
    ] = None,
    target: Target = None,
) -> None:
    """Make the champion before the champion again.

    The model ledger records it, the serving bundle is switched back in one step, and all pairs are
    scored anew. A second rollback goes further back.

    Example: `onedeal rollback`
    """
    from flows.rollback import rollback as run_rollback

    settings, progress, output = _setup(target)
    output.change(
        run_rollback(settings, version, by=by or _user(), run=progress, on_node=progress.on_node)
    )


@app.command(
    epilog="Exit codes: 0 promoted; 3 it is the champion already; 4 the version can't be deployed; "
    "5 another command is at work; 1 failed."
)
def promote(
    version: Annotated[
        str, typer.Argument(help="The version, as `onedeal status` names it.", show_default=False)
    ],
    reason: Annotated[
        str, typer.Option(help="Why, for the ledger.", show_default=False, metavar="TEXT")
    ],
    by: Annotated[
        str | None,
        typer.Option(help="Who asks for it; by default you.", show_default=False, metavar="NAME"),
    ] = None,
    target: Target = None,
) -> None:
    """Make a version champion against the gate's decision.

    The model ledger records who did it and why.

    Example: `onedeal promote VERSION --reason "the drop is one customer's test data"`
    """
    from flows.rollback import promote as run_promote

    settings, progress, output = _setup(target)
    output.change(
        run_promote(
            settings,
            version,
            reason=reason,
            by=by or _user(),
            run=progress,
            on_node=progress.on_node,
        )
    )


@app.command(epilog="Exit codes: 0 done; 5 another command is at work; 1 failed.")
def demo(target: Target = None) -> None:
    """Show the whole loop on generated deals, in about a minute.

    Three days: the first champion; new deals and verdicts, and a candidate against it; a day with
    nothing new. It works in a directory of its own, and says where to look next.

    Example: `onedeal demo`
    """
    from flows.demo import demo as run_demo

    settings, progress, output = _setup(target)
    run_demo(settings, say=output.say, run=progress, on_node=progress.on_node)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="onedeal")


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C stop the block, whatever becomes of it on the way, and clear up before it ends.

    Whoever presses it again at once means the same: a second one amid the clearing up would leave
    that half done. Later it stops what hangs.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        # Someone else says what it does, as the shell of a command in the background.
        yield
        return
    stopped_at: float | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_at
        if stopped_at is None or time.monotonic() - stopped_at >= CLEARING_UP_SECONDS:
            stopped_at = time.monotonic()
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except Exception as error:
        if stopped_at is not None:
            # dbt and DuckDB may tell it as a failure of theirs.
            raise KeyboardInterrupt from error
        raise
    finally:
        # After a stop only the process's own end is left, and it has its exit code.
        after = signal.default_int_handler if stopped_at is None else signal.SIG_IGN
        signal.signal(signal.SIGINT, after)


def _setup(target: str | None) -> tuple[Settings, Progress, Output]:
    from flows.console import Output, Progress
    from flows.settings import Settings

    return Settings.from_env(target), Progress(), Output()


def _keys() -> Keys:
    from flows.settings import Settings
    from serving.keys import Keys, keys_path

    return Keys(keys_path(Settings.from_env()))


def _stderr(message: str) -> None:
    typer.echo(message, err=True)


def _unexpected(error: Exception) -> str:
    """Log the stack trace, and say in one message what happened and where it stands."""
    import traceback

    from flows.settings import Settings

    what = f"{type(error).__name__}: {error}".strip()
    try:
        log = Settings.from_env().home / "error.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except (OSError, OnedealError):
        return f"Unexpected error: {what}"
    return f"Unexpected error: {what}\nThis should not happen. The details are in {log}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


if __name__ == "__main__":
    main()
