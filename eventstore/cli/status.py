"""`status`: how far the log is, what holds it back, who follows it and how far behind."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventstore.cli.errors import printable
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.output import Justify, Output, add_row, table
from eventstore.cli.running import run, run_until_stopped
from eventstore.cli.workers import Brokers
from eventstore.db import Database, require_current_schema
from eventstore.db.revisions import revision_of
from eventstore.errors import EventStoreError, UnavailableError
from eventstore.health import look

if TYPE_CHECKING:
    from eventstore.kafka.settings import KafkaSettings

WatchSeconds = Annotated[
    float | None, typer.Option("--watch", metavar="SECONDS", min=0.1, help="Show it again and again, until Ctrl-C.")
]


def status(ctx: typer.Context, *, watch: WatchSeconds = None, kafka: Brokers = None) -> None:
    """Show the schema's revision, the log's end, and every follower's position, lag, rate, state and owner.

    LAG is in positions; EVENTS are counted up to 10,000; SECONDS is the age of the oldest event that is not done. Who
    is fed by Kafka has a lag in offsets, where brokers are named.
    """
    cli = cli_of(ctx)
    declared = declared_followers(cli)
    brokers = cli.kafka(kafka) if kafka or cli.settings.kafka else None
    if watch is None:
        _show(cli, run(_status(cli, declared, brokers)))
    else:
        run_until_stopped(_watch(cli, declared, brokers, watch))


async def _watch(cli: Cli, declared: Sequence[str], kafka: "KafkaSettings | None", seconds: float) -> None:
    while True:
        found = await _status(cli, declared, kafka)
        if not cli.as_json:
            cli.output.console.clear()
        _show(cli, found)
        await asyncio.sleep(seconds)


def _show(cli: Cli, found: dict[str, Any]) -> None:
    if cli.as_json:
        cli.output.document(found)
    else:
        _print(cli.output, found)


def declared_followers(cli: Cli) -> list[str]:
    """Return the followers that the application declares, by the names of their checkpoints, if it can be loaded."""
    if not cli.settings.app:
        return []
    try:
        app = cli.app
    except EventStoreError as error:
        cli.output.note(f"the application's followers are left out: {error}")
        return []
    return list(app.followers().values())


async def _status(cli: Cli, declared: Sequence[str], brokers: "KafkaSettings | None") -> dict[str, Any]:
    async with cli.database() as database:
        await require_current_schema(database)
        health = await look(database, declared)
        sizes = await database.fetch("table_sizes")
        server = await database.fetchrow("server_status")
        kafka = await database.fetch("kafka_readers")
        lags = await _kafka_lags(cli, database, brokers)
        return {
            "server": _named(("version", "database", "in_recovery"), server or ()),
            "schema": {"name": database.schema, "revision": await revision_of(database)},
            "log": asdict(health.log),
            "sizes": {name: {"rows": rows, "bytes": size} for name, rows, size in sizes},
            "followers": [asdict(follower) for follower in health.followers],
            "kafka_readers": [
                {**row, "lag": lags.get((row["name"], row["topic"]))}
                for row in _rows(("name", "topic", "partitions", "records", "updated_at"), kafka)
            ],
            "parked": _rows(("name", "streams", "since"), await database.fetch("parked_by_consumer")),
            "leases": _rows(("name", "owner", "epoch", "seconds_left"), await database.fetch("list_leases")),
            "read_models": _rows(("name", "generation", "built_at"), await database.fetch("list_read_models")),
        }


async def _kafka_lags(
    cli: Cli, database: Database, brokers: "KafkaSettings | None"
) -> dict[tuple[str, str], int | None]:
    """Return how many offsets each read model is behind its topics, where brokers are named and answer."""
    if brokers is None:
        return {}
    from eventstore.kafka.lags import kafka_lags  # noqa: PLC0415 - loads the Kafka client, which few need

    try:
        lags = await kafka_lags(brokers, database)
    except UnavailableError as error:
        cli.output.note(f"how far Kafka's readers are behind is left out: {error}")
        return {}
    return {(lag.consumer, lag.topic): lag.offsets for lag in lags}


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
    columns = ("FOLLOWER", "left"), ("STATE", "left"), ("POSITION", "right"), ("LAG", "right"), ("EVENTS", "right")
    more: Sequence[tuple[str, Justify]] = ("SECONDS", "right"), ("RATE/S", "right"), ("OWNER", "left")
    _section(output, (*columns, *more, ("MOVED", "left")), [_follower_row(one) for one in found["followers"]])
    for one in found["followers"]:
        if one["reason"]:
            output.text((f"{one['name']} failed: ", "bold red"), printable(one["reason"]))
    columns = ("FED BY KAFKA", "left"), ("TOPIC", "left"), ("PARTITIONS", "right"), ("RECORDS", "right")
    _section(output, (*columns, ("MOVED", "left"), ("LAG", "right")), found["kafka_readers"])
    columns = ("PARKED BY", "left"), ("STREAMS", "right"), ("SINCE", "left")
    _section(output, columns, found["parked"])
    columns = ("LEASE", "left"), ("OWNER", "left"), ("EPOCH", "right"), ("SECONDS LEFT", "right")
    _section(output, columns, found["leases"])
    columns = ("READ MODEL", "left"), ("GENERATION", "right"), ("BUILT", "left")
    _section(output, columns, found["read_models"])


def _follower_row(follower: dict[str, Any]) -> dict[str, Any]:
    names = "name", "state", "position", "lag", "events_behind", "seconds_behind", "rate", "owner", "updated_at"
    events = follower["events_behind"] if follower["is_counted"] else f"<= {follower['events_behind']:,}"
    return {name: (follower | {"events_behind": events})[name] for name in names}


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
