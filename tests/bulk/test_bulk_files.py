"""Files: JSON Lines there and back, CSV by a mapping, and mistakes named by line and column."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventstore import NO_STREAM, EventStore, NewEvent, RecordedEvent
from eventstore.bulk import (
    CsvMapping,
    ImportedEvent,
    ImportRowError,
    JsonEvent,
    export_log,
    export_stream,
    import_events,
    read_csv,
    read_jsonl,
)
from eventstore.db.migrating import migrate
from eventstore.errors import ConfigurationError
from eventstore.metadata import Metadata
from fixtures.shop import SHIPPED, NoteTaken, app, placed

BEGIN = datetime(2011, 10, 1, 12, 30, 0, 123456, tzinfo=UTC)
DEEP = json.loads("[" * 400 + "]" * 400)
LINE = {"stream_id": "order-1", "event_type": "OrderShipped", "data": {"carrier": "dhl"}}


async def everything(store: EventStore) -> list[RecordedEvent[Any]]:
    return await store.read_all().to_list()


async def exported(store: EventStore, **part: Any) -> str:
    return "".join([line async for page in export_log(store, **part) for line in page])


async def fill(store: EventStore) -> None:
    beside = Metadata("c-1", "k-1", "cmd", "älice", {"shelf": [1, 2.5, None]})
    events = [NewEvent(placed(number), occurred_at=BEGIN + timedelta(hours=number)) for number in range(3)]
    await store.append("order-1", events, expected_version=NO_STREAM, metadata=beside)
    note = NoteTaken(text='a "quoted"\n line \\ \u2028 漢 \x1f', number=-0.0)
    await store.append("note-1", [note, NoteTaken(text="", number=1e22)], expected_version=NO_STREAM)
    await store.append("order-1", [SHIPPED], expected_version=3)
    old = [ImportedEvent("order-9", JsonEvent("OrderPlaced", {"sku": "old"}, 1))]
    await import_events(store, old, name="an older version")


async def test_an_export_imported_elsewhere_is_the_same_log(store: EventStore, dsn: str) -> None:
    await fill(store)
    lines = (await exported(store)).encode().splitlines(keepends=True)
    await migrate(dsn, schema="moved")

    async with EventStore.open(dsn, app, schema="moved") as moved:
        result = await import_events(moved, read_jsonl(lines), name="move", chunk=2)
        there, here = await everything(store), await everything(moved)
        assert result.imported == len(there) == 7
        assert [event[1:] for event in here] == [event[1:] for event in there]
        for event in there:
            old, new = [await one.log.events_by_ids(event.stream_id, [event.event_id]) for one in (store, moved)]
            assert old[0][1:] == new[0][1:]  # to the letter
        again = await exported(moved)
    assert [json.loads(line) | {"position": ""} for line in again.split("\n")[:-1]] == [
        json.loads(line) | {"position": ""} for line in lines
    ]


async def test_a_part_of_the_log_can_be_exported(store: EventStore) -> None:
    await fill(store)
    third = int(str((await everything(store))[2].position))

    orders = [json.loads(line) for line in (await exported(store, categories=["order"])).split("\n")[:-1]]
    later = [json.loads(line) for line in (await exported(store, after=third)).split("\n")[:-1]]
    stream = [line async for page in export_stream(store, "order-1", from_version=2) for line in page]

    assert [line["stream_id"] for line in orders] == ["order-1"] * 4 + ["order-9"]
    assert [line["stream_id"] for line in later] == ["note-1", "note-1", "order-1", "order-9"]
    assert [json.loads(line)["stream_version"] for line in stream] == [2, 3, 4]


async def test_a_part_is_imported_with_versions_of_its_own(store: EventStore, dsn: str) -> None:
    await fill(store)
    lines = [line.encode() async for page in export_stream(store, "order-1", from_version=3) for line in page]
    await migrate(dsn, schema="moved")

    async with EventStore.open(dsn, app, schema="moved") as moved:
        with pytest.raises(ImportRowError, match="line 1: it says version 3 of 'order-1', whose next one is 1"):
            await import_events(moved, read_jsonl(lines), name="a")
        await import_events(moved, read_jsonl(lines, renumber=True), name="a")
        assert [event.stream_version for event in await everything(moved)] == [1, 2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 3: column 2: it is not JSON"),
        (b'{"a": 1, "a": 2}', "line 3: an object in it has a name twice"),
        (b"[" * 100_000, "line 3: it is not JSON that can be read"),
        (b"\xff", "line 3: it is not UTF-8"),
        (b"1", "line 3: the event: "),
        (json.dumps(LINE | {"colour": 1}).encode(), "line 3: colour: extra_forbidden"),
        (json.dumps(LINE | {"stream_version": 0}).encode(), "line 3: stream_version: greater_than_equal"),
        (json.dumps(LINE | {"occurred_at": "2024-05-01T10:00:00"}).encode(), "line 3: occurred_at: timezone_aware"),
        (json.dumps(LINE | {"metadata": {"extra": {"$x": 1}}}).encode(), "line 3: metadata name '$x' is not allowed"),
        (json.dumps(LINE | {"metadata": {"extra": {"x": DEEP}}}).encode(), "cannot be stored: its metadata is nested"),
        (json.dumps(LINE | {"data": {"carrier": float("nan")}}).encode(), "line 3: it holds NaN"),
        (json.dumps(LINE | {"data": {"carrier": ["hunter2"]}}).encode(), "line 3: carrier: string_type"),
        (json.dumps(LINE | {"stream_id": "order"}).encode(), "line 3: invalid stream id 'order'"),
    ],
)
async def test_a_line_that_is_none_is_named_without_its_data(store: EventStore, line: bytes, said: str) -> None:
    lines = [json.dumps(LINE).encode() + b"\n", b"\n", line + b"\n"]

    with pytest.raises(ImportRowError) as raised:
        await import_events(store, read_jsonl(lines), name="a")

    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert (raised.value.row, raised.value.line) == (2, 3)
    assert await everything(store) == []


async def test_a_mark_of_the_encoding_and_empty_lines_are_passed_over(store: EventStore) -> None:
    lines = [b"\xef\xbb\xbf\n", b" \r\n", json.dumps(LINE).encode() + b"\r\n"]

    assert (await import_events(store, read_jsonl(lines), name="a")).imported == 1


# --- CSV -----------------------------------------------------------------------------------------------------------

MAPPING = """
stream = "order-{order}"
type = "{kind}"
delimiter = ";"

[types]
NEW = "OrderPlaced"
SENT = "OrderShipped"
SEEN = ""

[occurred_at]
column = "time"
format = "%d.%m.%Y %H:%M"
timezone = "Europe/Berlin"

[data_of.OrderPlaced]
sku = "article"
quantity = "amount"

[data_of.OrderShipped]
carrier = "article"

[metadata]
actor = "clerk"
till = "till"
"""
TABLE = """order;kind;time;article;amount;clerk;till
1;NEW;01.07.2011 12:00;tea;2;alice;7
1;SEEN;01.07.2011 12:01;;;;
2;NEW;01.01.2012 12:00;"cup;
large";1;;
1;SENT;02.07.2011 12:00;dhl;;bob;
"""


def csv_events(table: str, mapping: str = MAPPING) -> Sequence[ImportedEvent]:
    return list(read_csv(io.StringIO(table, newline=""), CsvMapping.parse(mapping, toml=True)))


async def test_csv_becomes_events_by_a_mapping(store: EventStore) -> None:
    await import_events(store, csv_events(TABLE), name="csv")

    first, second, third = await everything(store)
    assert [event.stream_id for event in (first, second, third)] == ["order-1", "order-2", "order-1"]
    assert [first.data, third.data] == [placed(2), SHIPPED]
    assert second.data.sku == "cup;\nlarge"
    assert [first.occurred_at.hour, second.occurred_at.hour] == [10, 11]  # summer, winter
    assert first.metadata == Metadata(actor="alice", extra={"till": "7"})
    assert second.metadata == Metadata()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1;NEW;yesterday;tea;2;;", "line 2: column 'time': not a time of the format '%d.%m.%Y %H:%M'"),
        ("1;OLD;01.07.2011 12:00;tea;2;;", "line 2: there is nothing under [types] for 'OLD'"),
        (";NEW;01.07.2011 12:00;tea;2;;", "line 2: column 'order': it is empty"),
        ("1;NEW;01.07.2011 12:00;tea;2;", "line 2: it has 6 cells, there are 7 columns"),
        ('1;NEW;01.07.2011 12:00;"tea"x;2;;', "line 2: it is not CSV"),
        ("1;NEW;01.07.2011 12:00;tea;hunter2;;", "line 2: column 'amount' (quantity): int_parsing"),
        ("1;NEW;01.07.2011 12:00;tea;;;", "line 2: column 'amount' (quantity): missing"),
        ("a/b;NEW;01.07.2011 12:00;tea;1;;", "line 2: invalid stream id"),
    ],
)
async def test_a_cell_that_is_wrong_is_named_by_line_and_column(store: EventStore, row: str, said: str) -> None:
    with pytest.raises(ImportRowError) as raised:
        await import_events(store, csv_events(TABLE.splitlines()[0] + "\n" + row + "\n"), name="csv")

    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.line == 2


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ("stream =", "no TOML"),
        ('stream = "order-{order}"', "type: missing"),
        (MAPPING + 'colour = "x"\n[extra]\n', "extra: extra_forbidden"),
        (MAPPING.replace("Europe/Berlin", "Europe/Atlantis"), "occurred_at.timezone: value_error"),
        (MAPPING.replace('"amount"', '"sum"'), "the mapping names the column 'sum', the file has: order, kind"),
        (MAPPING.replace("{order}", "{0}"), "the mapping names the column '0'"),
        (MAPPING.replace("{order}", "{order.kind}"), "the mapping names the column 'order.kind'"),
        (MAPPING.replace("{order}", "{order[kind]}"), "the mapping names the column 'order[kind]'"),
        (MAPPING.replace("{order}", "{order:>99999999999999}"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order}{}"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order:d}"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order:{kind}}"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order!x}"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order:08}"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order:0<8}"), "stand as {name} or"),
        (MAPPING.replace("{order}", "{order:.2}"), "stand as {name} or"),
    ],
)
def test_a_mapping_that_is_wrong_is_refused(mapping: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        csv_events(TABLE, mapping)

    assert said in str(raised.value)


def test_a_column_that_is_there_twice_is_refused_if_the_mapping_names_it() -> None:
    with pytest.raises(ConfigurationError, match="two columns of the name 'a'"):
        csv_events("a,a\n1,2\n", 'stream = "a-{a}"\ntype = "X"\n')
    (event,) = csv_events("a.id,b,b\n1,2,3\n", 'stream = "a-{a.id:>08}"\ntype = "X"\n')
    assert event.stream_id == "a-00000001"


def test_a_cell_may_be_as_long_as_an_event_may_be() -> None:
    (event,) = csv_events(f"a\n{'x' * 2_000_000}\n", 'stream = "a-1"\ntype = "X"\n[data]\ntext = "a"\n')

    assert event.data == JsonEvent("X", {"text": "x" * 2_000_000}, columns={"text": "a"})


@pytest.mark.parametrize(
    ("form", "text", "time"),
    [
        ("iso", "2011-10-01T12:30:00.123456Z", BEGIN),
        ("iso", "2011-10-01 14:30:00.123456+02:00", BEGIN),
        ("unix", "1317472200.123456", BEGIN),
        ("unix_ms", "1317472200123", BEGIN.replace(microsecond=123000)),
        ("%Y%m%d%H%M%S%z", "20111001123000+0000", BEGIN.replace(microsecond=0)),
    ],
)
def test_times_are_written_in_many_ways(form: str, text: str, time: datetime) -> None:
    mapping = f'stream = "a-1"\ntype = "X"\n[occurred_at]\ncolumn = "t"\nformat = "{form}"\n'

    (event,) = csv_events(f"t\n{text}\n", mapping)

    assert event.occurred_at == time


@pytest.mark.parametrize(("form", "text"), [("iso", "9999-12-31T23:59:59"), ("%Y-%Y", "2011-2011")])
def test_a_time_that_there_is_none_of_is_named_by_its_line(form: str, text: str) -> None:
    mapping = (
        f'stream = "a-1"\ntype = "X"\n[occurred_at]\ncolumn = "t"\nformat = "{form}"\ntimezone = "America/New_York"\n'
    )
    with pytest.raises(ImportRowError, match="line 2: column 't': not a time"):
        csv_events(f"t\n{text}\n", mapping)


def test_a_time_without_a_zone_needs_one() -> None:
    with pytest.raises(ImportRowError, match="column 't': no time zone"):
        csv_events("t\n2011-10-01\n", 'stream = "a-1"\ntype = "X"\n[occurred_at]\ncolumn = "t"\n')


def test_packed_files_are_no_different() -> None:
    packed = gzip.compress(json.dumps(LINE).encode())

    (event,) = read_jsonl(gzip.GzipFile(fileobj=io.BytesIO(packed)))

    assert event.stream_id == "order-1"
