"""The command line's root: global options, the boundary where errors are reported, and the commands."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from eventstore.cli import (
    admin,
    appending,
    exporting,
    importing,
    logs,
    parked,
    publishers,
    replaying,
    snapshots,
    status,
    subscriptions,
    workers,
)
from eventstore.cli.errors import ExitCode, reported
from eventstore.cli.options import begin, hoisted

EPILOG = """
Global options may also be written after the command.

[bold]Exit codes:[/bold] 0 done, 1 an error of the framework, 2 wrong command line, setting or input, or one that is
missing, 3 unavailable (a retry can help), 4 conflict (wrong expected version, ids used twice), 5 not found, 70 a
defect, 130 interrupted.

[bold]--json:[/bold] one document; `read`, `publish`, `project`, `subscribe`, `snapshot --follow` and `status --watch`
print one a line. Errors are a document on stderr: {"error", "message", "retryable", ...}.

[bold]Environment:[/bold] EVENTSTORE_APP, EVENTSTORE_DSN, EVENTSTORE_SCHEMA, EVENTSTORE_KAFKA, EVENTSTORE_PGBOUNCER;
to sign in at Kafka, EVENTSTORE_KAFKA_ with SECURITY_PROTOCOL, SASL_MECHANISM, SASL_USERNAME, SASL_PASSWORD, CA_FILE,
CERT_FILE, KEY_FILE; for one that is far or slow, ANSWER_WITHIN, TRANSACTION_TIMEOUT, SESSION_TIMEOUT, in seconds;
EVENTSTORE_DEBUG=1 shows tracebacks. All but the DSN may stand in pyproject.toml: \\[tool.eventstore].
"""


class RootGroup(TyperGroup):
    """The root command: takes global options anywhere, and reports whatever its commands raise."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Parse the command line."""
        sorted_args = hoisted(args)
        with reported(as_json="--json" in sorted_args):
            return super().make_context(info_name, sorted_args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with reported(as_json=bool(ctx.params.get("as_json"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=RootGroup,
    name="eventstore",
    help="Event sourcing on PostgreSQL: look into streams, replay aggregates, run workers, migrate, diagnose.",
    epilog="\n\n".join(" ".join(paragraph.split()) for paragraph in EPILOG.split("\n\n")),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only asked for here

        try:
            found = version("pg-eventstore")
        except PackageNotFoundError:  # a checkout that was never installed
            found = "unknown"
        typer.echo(f"eventstore {found}")
        raise typer.Exit(ExitCode.OK)


@app.callback()
def root(
    ctx: typer.Context,
    *,
    app_target: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:OBJECT", help="The application. \\[EVENTSTORE_APP, pyproject.toml]"),
    ] = None,
    dsn: Annotated[
        str | None, typer.Option(metavar="DSN", help="The database, postgresql://... \\[EVENTSTORE_DSN]")
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The PostgreSQL schema of the store. \\[EVENTSTORE_SCHEMA, pyproject.toml]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the global options."""
    ctx.obj = begin(app=app_target, dsn=dsn, schema=schema, as_json=as_json)


GROUPS: Sequence[tuple[str, Sequence[Any]]] = (
    ("Look", (logs.streams, logs.read, replaying.replay, status.status)),
    ("Change", (appending.append, snapshots.snapshot, subscriptions.reset, subscriptions.forget)),
    ("Run", (workers.publish, workers.project, workers.subscribe, workers.rebuild)),
    ("Move", (importing.import_, exporting.export)),
    ("Set up", (admin.migrate, admin.dev)),
)

for panel, commands in GROUPS:
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=panel)(command)  # `import` is no name for a function
app.add_typer(parked.parked, rich_help_panel="Run")
app.add_typer(publishers.publisher, name="publisher", rich_help_panel="Run")
