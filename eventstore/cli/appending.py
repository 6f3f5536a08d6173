"""`append`: events from stdin, checked by the application's models, all or nothing."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from eventstore.bulk.json_text import JsonReader, JsonText, NoJsonError
from eventstore.bulk.jsonl import JsonMetadata, without_data
from eventstore.bulk.models import model_from
from eventstore.cli.options import Cli, cli_of, parse_expected
from eventstore.cli.running import run
from eventstore.codec import EventTypes
from eventstore.codec.payload import summary
from eventstore.errors import InvalidArgumentError
from eventstore.events import AppendResult, NewEvent
from eventstore.streams import ExpectedVersion, checked_stream_id

EXAMPLE: Final = '{"type": "OrderPlaced", "data": {"sku": "tea"}}'


class IncomingEvent(BaseModel):
    """An event as it is written on stdin."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(validation_alias=AliasChoices("type", "event_type"))
    data: dict[str, Any] = Field(repr=False)
    event_id: UUID | None = None
    occurred_at: AwareDatetime | None = None
    metadata: JsonMetadata | None = None


def append(
    ctx: typer.Context,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream, category-key.")],
    expected_version: Annotated[
        str, typer.Option(metavar="none|exists|any|N", help="What the stream must be at; else nothing is appended.")
    ],
) -> None:
    """Append events from stdin to a stream, all or none of them.

    Stdin holds one JSON object, a list of them, or one after the other (JSON lines): {"type": ..., "data": {...}}, and
    perhaps "event_id", "occurred_at" and "metadata". With an "event_id" the same append may be repeated safely.
    """
    expected = parse_expected(expected_version)
    stream_id = checked_stream_id(stream)
    cli = cli_of(ctx)
    types = cli.app.events
    if sys.stdin.isatty():
        cli.output.note(f"reading events from the keyboard, such as {EXAMPLE}; Ctrl-D ends them")
    events = [_new_event(members, number, types) for number, members in enumerate(_objects_on_stdin(), 1)]
    if not events:
        raise InvalidArgumentError(f"there are no events on stdin: pipe JSON into it, such as {EXAMPLE}")
    result = run(_append(cli, stream_id, events, expected))
    if cli.as_json:
        cli.output.document(result_document(result))
        return
    versions = f"version {result.stream_version}"
    if result.first_version < result.stream_version:
        versions = f"versions {result.first_version} to {result.stream_version}"
    before = " before: this is the original result" if result.repeated else ""
    cli.output.text((result.stream_id, "bold"), f": {versions}, position {result.position}, appended{before}")
    for event_id in result.event_ids:
        cli.output.text("  ", (str(event_id), "dim"))


async def _append(cli: Cli, stream: str, events: list[NewEvent], expected: int | ExpectedVersion) -> AppendResult:
    async with cli.store(cli.app) as store:
        return await store.append(stream, events, expected_version=expected)


def result_document(result: AppendResult) -> dict[str, Any]:
    """Return the result of an append as JSON."""
    return {
        "stream_id": result.stream_id,
        "first_version": result.first_version,
        "stream_version": result.stream_version,
        "position": result.position,
        "event_ids": list(result.event_ids),
        "repeated": result.repeated,
    }


# --- from text to events -------------------------------------------------------------------------------------------


def _objects_on_stdin() -> list[dict[str, JsonText]]:
    """Return the members of each JSON object on stdin, whether they follow each other or stand in lists."""
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgumentError("stdin is not UTF-8") from None
    objects: list[dict[str, JsonText]] = []
    try:
        for members in JsonReader().objects(text):
            objects.append(members)  # noqa: PERF402 - an error says which one it is
    except NoJsonError as error:
        raise InvalidArgumentError(f"stdin, line {error.line}, is not JSON: {error.reason}") from None
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"event {len(objects) + 1} on stdin: {error}; write it as {EXAMPLE}") from None
    return objects


def _new_event(members: Mapping[str, JsonText], number: int, types: EventTypes) -> NewEvent:
    try:
        incoming = IncomingEvent.model_validate(without_data({name: each.value for name, each in members.items()}))
    except ValidationError as error:
        raise InvalidArgumentError(f"event {number} on stdin: {summary(error)}; write it as {EXAMPLE}") from None
    event_type = types.named(incoming.type)
    if event_type is None:
        known = ", ".join(sorted(event_type.name for event_type in types)) or "none"
        raise InvalidArgumentError(f"event {number}: there is no event type {incoming.type!r}, there are: {known}")
    try:
        data = model_from(event_type.model, members["data"])
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"event {number} ({incoming.type!r}): {error}") from None
    metadata = None if incoming.metadata is None else incoming.metadata.given()
    return NewEvent(data, incoming.event_id, incoming.occurred_at, metadata)
