"""Setting up: `migrate` and `dev`."""

import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from eventstore.cli.errors import Interrupted, WrongNameError
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.running import STOP_SIGNALS, run
from eventstore.db import require_current_schema
from eventstore.db.revisions import revision_of
from eventstore.db.scripts import head_revision
from eventstore.errors import ConfigurationError


def migrate(
    ctx: typer.Context,
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for an empty database, and run nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail unless the schema is current.")] = False,
) -> None:
    """Create the store's schema, or bring it to the newest revision. Safe to run again, and in many places at once."""
    cli = cli_of(ctx)
    if sql and check:
        raise typer.BadParameter("choose one of --sql and --check")
    if sql:
        from eventstore.db.migrating import write_sql  # noqa: PLC0415 - loads Alembic

        write_sql(cli.settings.schema, sys.stdout)
        return
    found, reached = run(_check(cli) if check else _migrate(cli))
    schema = cli.settings.schema
    if cli.as_json:
        cli.output.document({"schema": schema, "from_revision": found, "to_revision": reached})
    elif found == reached:
        cli.output.text(f"the schema {schema!r} is at revision {reached}, the newest: nothing to do")
    elif found is None:
        cli.output.text(f"the schema {schema!r} was created at revision {reached}")
    else:
        cli.output.text(f"the schema {schema!r} was migrated from revision {found} to {reached}")


async def _migrate(cli: Cli) -> tuple[str | None, str]:
    from eventstore.db.migrating import migrate as run_migrations  # noqa: PLC0415 - loads Alembic

    async with cli.database() as database:
        found = await revision_of(database)
    return found, await run_migrations(cli.dsn, schema=cli.settings.schema)


async def _check(cli: Cli) -> tuple[str | None, str]:
    async with cli.database() as database:
        await require_current_schema(database)
        return await revision_of(database), head_revision()


def dev(
    ctx: typer.Context,
    *,
    data_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the servers keep their data from one run to the next.")
    ] = Path(".eventstore"),
    kafka: Annotated[bool, typer.Option(help="Start Kafka too, where it can be had.")] = True,
) -> None:
    """Run PostgreSQL and Kafka for development until Ctrl-C, with the schema migrated.

    Prints their addresses as `export` lines on stdout. EVENTSTORE_POSTGRES and EVENTSTORE_KAFKA choose others than the
    embedded servers: `docker`, an address, or (Kafka) `none`.
    """
    cli = cli_of(ctx)
    try:
        from eventstore.devserver import SilentProgress, provision  # noqa: PLC0415 - an optional extra
        from eventstore.devserver.progress import RichProgress  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"`eventstore dev` needs the package {error.name!r}: pip install 'pg-eventstore[dev]'"
        ) from None
    sources = _dev_sources(kafka=kafka)
    progress = SilentProgress() if cli.as_json else RichProgress(cli.output.notes)
    before = {number: signal.signal(number, _stop) for number in STOP_SIGNALS}
    try:
        with provision(*sources, state_dir=data_dir, progress=progress) as servers:
            reached = run(_migrate_dev(servers.postgres_dsn, cli.settings.schema))
            with suppress(Interrupted):
                cli.output.note("running; Ctrl-C stops")
                _print_addresses(cli, servers, reached)
                while True:
                    signal.pause()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dev_sources(*, kafka: bool) -> tuple[Any, Any]:
    from eventstore.devserver import Absent, DevServerError, kafka_source, postgres_source  # noqa: PLC0415 - as in `dev`

    try:
        return postgres_source(), kafka_source() if kafka else Absent("--no-kafka was passed")
    except DevServerError as error:
        raise WrongNameError(str(error)) from None


async def _migrate_dev(dsn: str, schema: str) -> str:
    from eventstore.db.migrating import migrate as run_migrations  # noqa: PLC0415 - loads Alembic

    return await run_migrations(dsn, schema=schema)


def _stop(_number: int, _frame: Any) -> None:
    raise Interrupted


def _print_addresses(cli: Cli, servers: Any, revision: str) -> None:
    from eventstore.devserver import Address, postgres_source  # noqa: PLC0415 - an optional extra

    given = isinstance(postgres_source(), Address)
    if cli.as_json:
        dsn = None if given else servers.postgres_dsn
        document = {"dsn": dsn, "kafka": servers.kafka_bootstrap, "no_kafka_because": servers.kafka_unavailable_reason}
        cli.output.document(document | {"schema": cli.settings.schema, "revision": revision})
        return
    # An address that came from outside may hold a password: name it, do not show it.
    shown = '"$EVENTSTORE_POSTGRES"' if given else shlex.quote(servers.postgres_dsn)
    lines = [f"export EVENTSTORE_DSN={shown}"]
    if servers.kafka_bootstrap:
        lines.append(f"export EVENTSTORE_KAFKA={shlex.quote(servers.kafka_bootstrap)}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
