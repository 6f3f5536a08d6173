"""`status`: how far the log is, what holds it back, who follows it and how far behind."""

from collections.abc import Sequence
from typing import Any

import typer

from eventstore.cli.options import Cli, cli_of
from eventstore.cli.output import Justify, Output, add_row, table
from eventstore.cli.running import run
from eventstore.db import require_current_schema
from eventstore.db.revisions import revision_of
from eventstore.errors import EventStoreError
from eventstore.store.postgres import PostgresLog


def status(ctx: typer.Context) -> None:
    """Show the schema's revision, the log's end, and every reader's position, lag and lease."""
    cli = cli_of(ctx)
    declared = _declared(cli)
    found = run(_status(cli, declared))
    if cli.as_json:
        cli.output.document(found)
    else:
        _print(cli.output, found)


def _declared(cli: Cli) -> list[str]:
    """Return the readers that the application declares, by the names of their checkpoints, if it can be loaded."""
    if not cli.settings.app:
        return []
    try:
        app = cli.app
    except EventStoreError as error:
        cli.output.note(f"the application's readers are left out: {error}")
        return []
    projections = [projection.consumer_name for projection in app.projections if not projection.inline]
    return projections + [publisher.checkpoint_name for publisher in app.publishers]


async def _status(cli: Cli, declared: Sequence[str]) -> dict[str, Any]:
    async with cli.database() as database:
        await require_current_schema(database)
        log = PostgresLog(database)
        # Read in this order, the mark is never above what was drawn, and a holder is only shown where it matters.
        drawn, mark = await log.last_drawn(), await log.high_water()
        holders = await database.fetch("low_water_holders", database.schema) if mark < drawn else []
        last = await database.fetchrow("last_event")
        sizes = await database.fetch("table_sizes")
        server = await database.fetchrow("server_status")
        position = last[0] if last else 0
        kafka = await database.fetch("kafka_readers")
        readers = _readers(await database.fetch("list_checkpoints"), declared, {row[0] for row in kafka}, position)
        return {
            "server": _named(("version", "database", "in_recovery"), server or ()),
            "schema": {"name": database.schema, "revision": await revision_of(database)},
            "log": {
                "last_position": position,
                "last_recorded_at": last[1] if last else None,
                "high_water": mark,
                "last_drawn": drawn,
                "held_back_by": _rows(("pid", "floor", "application_name", "state", "seconds"), holders),
            },
            "sizes": {name: {"rows": rows, "bytes": size} for name, rows, size in sizes},
            "checkpoints": readers,
            "kafka_readers": _rows(("name", "topic", "partitions", "records", "updated_at"), kafka),
            "leases": _rows(("name", "owner", "epoch", "seconds_left"), await database.fetch("list_leases")),
            "read_models": _rows(("name", "generation", "built_at"), await database.fetch("list_read_models")),
        }


def _readers(
    rows: Sequence[Sequence[Any]], declared: Sequence[str], fed_by_kafka: set[str], last_position: int
) -> list[dict[str, Any]]:
    known = {
        name: {
            "name": name,
            "position": position,
            "lag": max(0, last_position - position),
            "epoch": epoch,
            "updated_at": updated_at,
        }
        for name, position, _, epoch, updated_at in rows
    }
    for name in declared:
        if name not in fed_by_kafka:
            never = {"name": name, "position": 0, "lag": last_position, "epoch": None, "updated_at": None}
            known.setdefault(name, never)
    return sorted(known.values(), key=lambda reader: str(reader["name"]))


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


def _rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [_named(names, row) for row in rows]


# --- for people ----------------------------------------------------------------------------------------------------


def _print(output: Output, found: dict[str, Any]) -> None:
    server, log, sizes = found["server"], found["log"], found["sizes"]
    about = table(output, ("", "left"), ("", "left"))
    about.show_header = False
    replica = ", a replica: positions are settled on the primary only" if server["in_recovery"] else ""
    add_row(about, "server", f"PostgreSQL {server['version']}, database {server['database']}{replica}")
    add_row(about, "schema", f"{found['schema']['name']}, revision {found['schema']['revision']} (current)")
    add_row(about, "last position", log["last_position"])
    add_row(about, "recorded", log["last_recorded_at"])
    held = log["last_drawn"] - log["high_water"]
    add_row(about, "settled up to", f"{log['high_water']:,}" + (f", {held:,} drawn behind it" if held else ""))
    for name, size in sizes.items():
        add_row(about, name, f"about {size['rows']:,}, {_megabytes(size['bytes'])}")
    output.table(about)
    columns: Sequence[tuple[str, Justify]]
    columns = ("HELD BACK BY PID", "right"), ("FLOOR", "right"), ("APPLICATION", "left"), ("STATE", "left")
    _section(output, (*columns, ("SECONDS", "right")), log["held_back_by"])
    columns = ("CHECKPOINT", "left"), ("POSITION", "right"), ("LAG", "right"), ("EPOCH", "right"), ("MOVED", "left")
    _section(output, columns, found["checkpoints"])
    columns = ("FED BY KAFKA", "left"), ("TOPIC", "left"), ("PARTITIONS", "right"), ("RECORDS", "right")
    _section(output, (*columns, ("MOVED", "left")), found["kafka_readers"])
    columns = ("LEASE", "left"), ("OWNER", "left"), ("EPOCH", "right"), ("SECONDS LEFT", "right")
    _section(output, columns, found["leases"])
    columns = ("READ MODEL", "left"), ("GENERATION", "right"), ("BUILT", "left")
    _section(output, columns, found["read_models"])


def _section(output: Output, columns: Sequence[tuple[str, Justify]], rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    output.text("")
    section = table(output, *columns)
    for row in rows:
        cells = [f"{cell:.1f}" if isinstance(cell, float) else cell for cell in row.values()]
        late = row.get("lag") or row.get("seconds_left", 0) < 0
        add_row(section, *cells, style="yellow" if late else None)
    output.table(section)


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"
