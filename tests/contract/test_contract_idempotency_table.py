"""Every cell of the table of repeated ids: alone, among the appends of others, and inside a transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from eventstore import ANY, NO_STREAM, AppendResult, EventStore, ExpectedVersion, NewEvent
from eventstore.clock import uuid7
from eventstore.errors import IdempotencyError, WrongExpectedVersionError
from fixtures.idempotency import BEFORE, EXPECTATIONS, FIRST, ROWS, SECOND, Answer, Row, table
from fixtures.shop import SHIPPED, placed

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "idempotency.md"

Append = Callable[[str, Sequence[NewEvent], int | ExpectedVersion], Awaitable[AppendResult]]


async def answer_to(append: Awaitable[AppendResult]) -> tuple[Answer, AppendResult | None]:
    """Return what an append is answered with, as the table calls it."""
    try:
        result = await append
    except IdempotencyError:
        return Answer.REUSED, None
    except WrongExpectedVersionError:
        return Answer.CONFLICT, None
    return (Answer.ORIGINAL if result.repeated else Answer.APPENDED), result


async def ask_every_cell(store: EventStore, append: Append) -> None:
    """Ask every cell of the table of streams of its own."""
    for row in ROWS:
        await ask_row(store, row, append)


async def ask_row(store: EventStore, row: Row, append: Append) -> None:
    """Ask the cells of a row, and hold answer, result and stream against the table."""
    for number, (expected, wanted) in enumerate(zip(EXPECTATIONS.values(), row.answers, strict=True)):
        filled = f"order-{ROWS.index(row)}-{number}"
        stream_id = f"{filled}-new" if row.elsewhere else filled
        await store.append(filled, FIRST, expected_version=NO_STREAM)
        await store.append(filled, SECOND, expected_version=2)
        before = await store.read_stream(stream_id).to_list()

        answer, result = await answer_to(append(stream_id, row.events, expected))

        after = await store.read_stream(stream_id).to_list()
        assert answer == wanted, f"{row.what}, expecting {expected}"
        if answer is Answer.APPENDED:
            assert result is not None
            assert after[: len(before)] == before
            assert [event.event_id for event in after[len(before) :]] == list(result.event_ids)
            assert (result.first_version, result.stream_version) == (len(before) + 1, len(after))
            continue
        assert after == before
        if answer is Answer.ORIGINAL:
            assert result is not None
            ids = [event.event_id for event in row.events]
            assert list(result.event_ids) == ids
            assert (result.first_version, result.stream_version) == (BEFORE[result.event_ids[0]], BEFORE[ids[-1]])  # type: ignore[index]
            assert result.position == before[result.stream_version - 1].position


@pytest.mark.origin("KurrentDB")
async def test_repeated_ids_are_answered_as_the_table_says(any_store: EventStore) -> None:
    async def alone(stream_id: str, events: Sequence[NewEvent], expected: int | ExpectedVersion) -> AppendResult:
        return await any_store.append(stream_id, events, expected_version=expected)

    await ask_every_cell(any_store, alone)


async def test_repeated_ids_among_the_appends_of_others_change_nothing_for_either(any_store: EventStore) -> None:
    """Appends of one process may go out together; each keeps its own answer."""

    async def among_others(stream_id: str, events: Sequence[NewEvent], expected: int | ExpectedVersion) -> AppendResult:
        def neighbour(expected_version: int) -> Awaitable[tuple[Answer, AppendResult | None]]:
            return answer_to(any_store.append(f"note-{uuid7()}", [SHIPPED], expected_version=expected_version))

        before, fails, mine, fails_too, after = await asyncio.gather(
            neighbour(0),
            neighbour(5),
            asyncio.ensure_future(any_store.append(stream_id, events, expected_version=expected)),
            neighbour(5),
            neighbour(0),
            return_exceptions=True,
        )
        for answered, wanted in zip((before, fails, fails_too, after), _NEIGHBOURS, strict=True):
            assert not isinstance(answered, BaseException)
            assert answered[0] is wanted
        if isinstance(mine, BaseException):
            raise mine
        return mine

    await ask_every_cell(any_store, among_others)


_NEIGHBOURS = (Answer.APPENDED, Answer.CONFLICT, Answer.CONFLICT, Answer.APPENDED)


async def test_repeated_ids_in_a_transaction_are_answered_the_same_and_it_goes_on(any_store: EventStore) -> None:
    async def inside(stream_id: str, events: Sequence[NewEvent], expected: int | ExpectedVersion) -> AppendResult:
        failed: Exception | None = None
        result: AppendResult | None = None
        async with any_store.transaction() as tx:
            await tx.append(f"note-{stream_id}", [SHIPPED], expected_version=NO_STREAM)
            try:
                result = await tx.append(stream_id, events, expected_version=expected)
            except (IdempotencyError, WrongExpectedVersionError) as error:
                failed = error
            await tx.append(f"note-{stream_id}", [SHIPPED], expected_version=1)
        assert len(await any_store.read_stream(f"note-{stream_id}").to_list()) == 2
        if failed is not None:
            raise failed
        assert result is not None
        return result

    await ask_every_cell(any_store, inside)


async def test_a_transaction_answers_for_what_it_wrote_itself_as_for_what_was_there(any_store: EventStore) -> None:
    rows = [row for row in ROWS if not row.elsewhere]
    async with any_store.transaction() as tx:
        for index, row in enumerate(rows):
            for number, (expected, wanted) in enumerate(zip(EXPECTATIONS.values(), row.answers, strict=True)):
                stream_id = f"order-{index}-{number}"
                await tx.append(stream_id, FIRST, expected_version=NO_STREAM)
                await tx.append(stream_id, SECOND, expected_version=2)

                answer, _ = await answer_to(tx.append(stream_id, row.events, expected_version=expected))

                assert answer == wanted, f"{row.what}, expecting {expected}"


# --- at the same time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [0, NO_STREAM, ANY], ids=str)
async def test_of_the_same_append_many_times_at_once_one_appends_and_all_get_its_result(
    any_store: EventStore, expected: int | ExpectedVersion
) -> None:
    results = await asyncio.gather(*(any_store.append("order-1", FIRST, expected_version=expected) for _ in range(20)))

    assert sum(not result.repeated for result in results) == 1
    assert len({(each.first_version, each.stream_version, each.position, each.event_ids) for each in results}) == 1
    assert len(await any_store.read_all().to_list()) == 2


async def test_of_two_facts_under_one_id_at_once_one_wins_and_the_other_is_told(any_store: EventStore) -> None:
    event_id = uuid7()
    answers = await asyncio.gather(
        *(
            answer_to(any_store.append("order-1", [NewEvent(placed(n), event_id=event_id)], expected_version=ANY))
            for n in range(10)
        )
    )

    assert Counter(answer for answer, _ in answers) == {Answer.APPENDED: 1, Answer.REUSED: 9}
    assert len(await any_store.read_all().to_list()) == 1


async def test_of_overlapping_appends_at_once_one_wins_whole(any_store: EventStore) -> None:
    overlapping = [FIRST, (FIRST[1], *SECOND), (SECOND[0], FIRST[0])]
    answers = await asyncio.gather(
        *(answer_to(any_store.append("order-1", events, expected_version=ANY)) for events in overlapping)
    )

    (winner,) = [result for answer, result in answers if answer is Answer.APPENDED]
    assert winner is not None
    assert Counter(answer for answer, _ in answers) == {Answer.APPENDED: 1, Answer.REUSED: 2}
    assert [event.event_id for event in await any_store.read_stream("order-1").to_list()] == list(winner.event_ids)


async def test_the_same_ids_in_many_streams_at_once_are_many_events(any_store: EventStore) -> None:
    results = await asyncio.gather(
        *(any_store.append(f"order-{number}", FIRST, expected_version=NO_STREAM) for number in range(10))
    )

    assert not any(result.repeated for result in results)
    assert len(await any_store.read_all().to_list()) == 20


async def test_a_repetition_waits_for_the_transaction_that_may_have_written_it(any_store: EventStore) -> None:
    """Neither an early no nor a second event: the answer is what the open transaction comes to."""
    wrote, may_end = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with any_store.transaction() as tx:
            await tx.append("order-1", FIRST, expected_version=NO_STREAM)
            wrote.set()
            await may_end.wait()

    writer = asyncio.create_task(first())
    await wrote.wait()
    again = asyncio.create_task(any_store.append("order-1", FIRST, expected_version=NO_STREAM))
    await any_store.append("order-2", FIRST, expected_version=NO_STREAM)
    assert not again.done()
    may_end.set()
    await writer

    assert (await again).repeated
    assert len(await any_store.read_stream("order-1").to_list()) == 2


# --- what the documentation says -------------------------------------------------------------------------------------


def test_the_documented_table_is_the_one_that_is_tested() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8"), f"docs/idempotency.md needs this table:\n\n{table()}"
