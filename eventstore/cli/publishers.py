"""`eventstore publisher`: what a publisher holds back, and its repairs by hand."""

import getpass
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventstore.cli.errors import named_by_the_user
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.output import add_row, table
from eventstore.cli.running import run
from eventstore.cli.watching import log_warnings
from eventstore.cli.workers import Brokers
from eventstore.db import require_current_schema
from eventstore.errors import NotParkedByPublisherError
from eventstore.events import Position
from eventstore.outbox import Publisher
from eventstore.store import EventStore

if TYPE_CHECKING:
    from eventstore.kafka.repairing import Unparked
    from eventstore.kafka.settings import KafkaSettings

SHOWN: int = 20
"""Held events that `show` lists."""

publisher = typer.Typer(
    help="Look into a publisher's parked streams, send or discard them, and repair what it sent.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The publisher.")]
Stream = Annotated[str, typer.Argument(metavar="STREAM", help="The stream.")]


@publisher.command()
def parked(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Publishers; all if none.")] = None,
) -> None:
    """List the streams that publishers hold back, and why."""
    cli = cli_of(ctx)
    chosen = [cli.publisher(name) for name in names] if names else list(cli.app.publishers)
    rows = run(_parked(cli, chosen))
    if cli.as_json:
        cli.output.document(rows)
        return
    if not rows:
        cli.output.note("nothing is parked")
        return
    shown = table(
        cli.output,
        ("PUBLISHER", "left"),
        ("STREAM", "left"),
        ("FROM VERSION", "right"),
        ("HELD", "right"),
        ("SINCE", "left"),
        ("WHY", "left"),
    )
    for row in rows:
        add_row(shown, row["publisher"], row["stream_id"], row["stream_version"], row["held"], row["since"], row["why"])
    cli.output.table(shown)


@publisher.command()
def show(ctx: typer.Context, name: Name, stream: Stream) -> None:
    """Show a parked stream: why it is held, and its first held events (their sizes, and not what is in them)."""
    cli = cli_of(ctx)
    found = run(_show(cli, cli.publisher(name), stream))
    if cli.as_json:
        cli.output.document(found)
        return
    cli.output.text((found["stream_id"], "bold"), f": {found['held']:,} event(s) held since {found['since']}")
    cli.output.text(f"why: {found['why']}")
    shown = table(
        cli.output,
        ("VERSION", "right"),
        ("POSITION", "right"),
        ("TYPE", "left"),
        ("BYTES", "right"),
        ("RECORDED", "left"),
    )
    for event in found["events"]:
        add_row(shown, *event.values())
    cli.output.table(shown)
    cli.output.note(f"mend the cause, then: eventstore publisher unpark {name} {stream}")


@publisher.command()
def unpark(ctx: typer.Context, name: Name, stream: Stream, *, kafka: Brokers = None) -> None:
    """Send what is held of a stream, and go on with it; what still cannot be sent stays parked."""
    from eventstore.kafka.repairing import unpark as unpark_stream  # noqa: PLC0415 - loads the Kafka client

    async def work(store: EventStore, one: Publisher, settings: "KafkaSettings") -> dict[str, Any]:
        done = await unpark_stream(store, one, settings, stream)
        return _outcome(name, stream, done)

    _print_outcome(cli_of(ctx), stream, _with_kafka(ctx, name, kafka, work))


@publisher.command()
def discard(
    ctx: typer.Context,
    name: Name,
    stream: Stream,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    by: Annotated[str | None, typer.Option(help="Who decides it; it is kept. The user, if left out.")] = None,
    version: Annotated[
        int | None,
        typer.Option(min=1, help="The version that `publisher show` has shown first; another one is not discarded."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needs --version.")] = False,
    kafka: Brokers = None,
) -> None:
    """Go on with a parked stream without its first held event; the rest of it is sent.

    A record that says only that the event was discarded takes its place. Who did so, when and why stays on record
    (`eventstore parked list --discarded`).
    """
    from eventstore.kafka.repairing import discard as discard_held  # noqa: PLC0415 - loads the Kafka client

    cli = cli_of(ctx)
    if yes and version is None:
        raise typer.BadParameter("nobody is asked: say which event it is with --version, as `publisher show` shows it")
    if not yes:
        found = run(_show(cli, cli.publisher(name), stream))
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here: pass --yes and --version")
        cli.output.note(f"version {found['stream_version']:,} cannot be sent: {found['why']}")
        typer.confirm(f"Go on with {stream} without it?", abort=True, err=True)
        version = version or found["stream_version"]
    decided: dict[str, Any] = {"by": by or getpass.getuser(), "reason": reason, "version": version}

    async def work(store: EventStore, one: Publisher, settings: "KafkaSettings") -> dict[str, Any]:
        done = await discard_held(store, one, settings, stream, **decided)
        return _outcome(name, stream, done)

    _print_outcome(cli, stream, _with_kafka(ctx, name, kafka, work))


@publisher.command()
def replay(
    ctx: typer.Context,
    name: Name,
    *,
    first: Annotated[int, typer.Option("--from", metavar="POSITION", min=1, help="The first position.")],
    last: Annotated[int, typer.Option("--to", metavar="POSITION", min=1, help="The last position.")],
    topic: Annotated[str, typer.Option(metavar="TOPIC", help="The whole name of the topic.")],
    again: Annotated[bool, typer.Option("--again", help="Even what an earlier run has sent already.")] = False,
    kafka: Brokers = None,
) -> None:
    """Send a range of the log to a topic once more. Run again, it goes on where it was, or does nothing."""
    from eventstore.kafka.replaying import replay as replay_range  # noqa: PLC0415 - loads the Kafka client

    async def work(store: EventStore, one: Publisher, settings: "KafkaSettings") -> dict[str, Any]:
        with named_by_the_user():
            done = await replay_range(
                store, one, settings, first=Position(first), last=Position(last), topic=topic, again=again
            )
        return {"publisher": name, "topic": topic, "sent": done.events, "went_on_after": done.went_on_after}

    done = _with_kafka(ctx, name, kafka, work)
    if done is not None:
        after = "" if done["went_on_after"] is None else f", after position {done['went_on_after']:,} of an earlier run"
        cli_of(ctx).output.text((topic, "bold"), f": {done['sent']:,} event(s) sent{after}")


@publisher.command("accept-partitions")
def accept_partitions(ctx: typer.Context, name: Name, *, kafka: Brokers = None) -> None:
    """Go on with topics whose number of partitions has changed; let consumers come to their ends before."""
    from eventstore.kafka.repairing import accept_partitions as accept  # noqa: PLC0415 - loads the Kafka client

    async def work(store: EventStore, one: Publisher, settings: "KafkaSettings") -> dict[str, Any]:
        changed = await accept(store, one, settings)
        return {"publisher": name, "changed": {topic: {"from": a, "to": b} for topic, (a, b) in changed.items()}}

    done = _with_kafka(ctx, name, kafka, work)
    if done is not None:
        for topic, numbers in done["changed"].items():
            cli_of(ctx).output.text((topic, "bold"), f": {numbers['from']} partitions before, {numbers['to']} now")
        if not done["changed"]:
            cli_of(ctx).output.note("all topics have as many partitions as before")


@publisher.command()
def regroup(ctx: typer.Context, name: Name, *, kafka: Brokers = None) -> None:
    """Split a publisher into the number of groups that the application declares. Killed, it can be run again."""
    from eventstore.kafka.regrouping import regroup as change  # noqa: PLC0415 - loads the Kafka client

    async def work(store: EventStore, one: Publisher, settings: "KafkaSettings") -> dict[str, Any]:
        return {"publisher": name, "before": await change(store, one, settings), "groups": one.groups}

    done = _with_kafka(ctx, name, kafka, work)
    if done is not None:
        if done["before"] is None:
            cli_of(ctx).output.note(f"it has never published: it will begin with {done['groups']} group(s)")
        else:
            cli_of(ctx).output.text((name, "bold"), f": {done['before']} group(s) before, {done['groups']} now")


def _outcome(name: str, stream: str, done: "Unparked") -> dict[str, Any]:
    return {
        "publisher": name,
        "stream_id": stream,
        "sent": done.sent,
        "parked_at_version": done.parked.stream_version if done.parked else None,
        "why": done.parked.reason if done.parked else None,
    }


def _print_outcome(cli: Cli, stream: str, done: dict[str, Any] | None) -> None:
    if done is None:
        return
    text = f"{done['sent']:,} event(s) sent"
    if done["parked_at_version"] is not None:
        text += f", still parked at version {done['parked_at_version']:,}: {done['why']}"
    cli.output.text((stream, "bold"), f": {text}")


def _with_kafka(
    ctx: typer.Context,
    name: str,
    kafka: str | None,
    work: Callable[[EventStore, Publisher, "KafkaSettings"], Awaitable[dict[str, Any]]],
) -> dict[str, Any] | None:
    """Do something with a publisher; return what came of it, unless it was printed for a machine."""
    cli = cli_of(ctx)
    one, settings = cli.publisher(name), cli.kafka(kafka)
    log_warnings(cli.output)

    async def in_store() -> dict[str, Any]:
        async with cli.store(cli.app) as store:
            return await work(store, one, settings)

    done = run(in_store())
    if not cli.as_json:
        return done
    cli.output.document(done)
    return None


async def _parked(cli: Cli, publishers: Sequence[Publisher]) -> list[dict[str, Any]]:
    names = {group.name: one.name for one in publishers for group in one.all_groups()}
    async with cli.database() as database:
        await require_current_schema(database)
        rows = await database.fetch("list_parked_by_publishers", list(names))
    return [
        {
            "publisher": names[name],
            "stream_id": stream_id,
            "first_position": position,
            "stream_version": version,
            "held": held,
            "since": since,
            "why": reason,
        }
        for name, stream_id, position, version, reason, since, held in rows
    ]


async def _show(cli: Cli, one: Publisher, stream_id: str) -> dict[str, Any]:
    for row in await _parked(cli, [one]):
        if row["stream_id"] == stream_id:
            break
    else:
        raise NotParkedByPublisherError(one.name, stream_id)
    async with cli.database() as database:
        held = await database.fetch("list_held_events", stream_id, row["stream_version"], SHOWN)
    names = ("stream_version", "position", "event_type", "bytes", "recorded_at")
    return row | {"events": [dict(zip(names, values, strict=True)) for values in held]}
