"""The states, and the ways between them: one table, which is drawn, and which every worker keeps to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from eventstore import BEGINNING, EventStore, SubscriptionReader
from eventstore.errors import InvalidArgumentError, UnavailableError
from eventstore.subscriptions import EventBatch, Progress
from eventstore.subscriptions.holding import Hold
from eventstore.subscriptions.states import ENDED, FIRST, TRANSITIONS, State
from fixtures.shop import OrderPlaced
from fixtures.stores import open_store
from fixtures.subscribing import WITHIN, fill, quantities, take, waiting_for
from fixtures.tcp_proxy import TcpProxy

DESIGN = Path(__file__).parent.parent.parent / "docs/design/subscriptions.md"
OUTSIDE = "[*]"
"""In a drawing: where a worker comes from, and where it may stay."""

# --- the table and the drawings ------------------------------------------------------------------------------------


def drawings() -> list[set[tuple[str, str]]]:
    """Return the ways of each drawing."""
    found = re.findall(r"^```mermaid\n(.*?)^```", DESIGN.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [
        {(_name(a), _name(b)) for a, b in re.findall(r"^ +(\S+) --> ([^\s:]+)(?:: .+)?$", drawing, re.MULTILINE)}
        for drawing in found
    ]


def _name(drawn: str) -> str:
    return drawn.replace("_", " ")


def states_of(drawing: set[tuple[str, str]]) -> set[str]:
    return {state for way in drawing for state in way} - {OUTSIDE}


def test_what_is_drawn_is_the_table() -> None:
    drawn = {way for drawing in drawings() for way in drawing if OUTSIDE not in way}
    assert drawn == {(before, after) for before, follow in TRANSITIONS.items() for after in follow}


def test_each_drawing_begins_and_ends_as_the_code_does_and_nothing_in_it_is_a_trap() -> None:
    subscription, others = drawings()
    assert states_of(subscription) & states_of(others) == {FIRST, *ENDED}
    for drawing in (subscription, others):
        assert {way for way in drawing if OUTSIDE in way} == {(OUTSIDE, FIRST), *((state, OUTSIDE) for state in ENDED)}
        for state in states_of(drawing) - ENDED:
            assert {(state, ended) for ended in ENDED} <= drawing


def test_every_state_is_in_the_table_and_each_of_a_subscription_is_explained() -> None:
    assert set(get_args(State)) == set(TRANSITIONS)
    explained = re.findall(r"^\| `([a-z ]+)` \|", DESIGN.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(explained) == states_of(drawings()[0])


def test_whoever_leaves_the_table_is_noticed(stray_transitions: list[tuple[State | None, State]]) -> None:
    """This is what holds all the other tests' workers to it."""
    progress = Progress("somebody")
    progress.enter("waiting")
    progress.enter("live")
    progress.state = "working"
    assert stray_transitions == [("waiting", "live"), ("live", "working")]
    stray_transitions.clear()


# --- ways that are seldom gone -------------------------------------------------------------------------------------


async def test_who_waits_for_a_turn_backs_off_when_there_is_no_connection(proxy: TcpProxy, store: EventStore) -> None:
    await fill(store, 1)
    async with open_store(proxy.dsn) as behind, behind.subscription("m", of=OrderPlaced, start=BEGINNING) as reader:
        proxy.refuse()
        async with waiting_for(reader, "backing off") as asked:
            proxy.accept()
            assert quantities(await asked) == [1]


async def test_who_gives_up_while_it_backs_off_has_failed(proxy: TcpProxy) -> None:
    async with open_store(proxy.dsn) as behind:
        reader = behind.subscription("m", of=OrderPlaced, start=BEGINNING)
        with pytest.raises(ZeroDivisionError):
            async with reader:
                proxy.refuse()
                async with waiting_for(reader, "backing off"):
                    raise ZeroDivisionError
        assert reader.state == "failed"
        proxy.accept()


@asynccontextmanager
async def unanswered_commit(
    reader: SubscriptionReader[Any], batch: EventBatch[Any], patching: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Commit while nobody answers: it is tried again and again in the block, and given up at its end."""

    async def unanswered(*_: object, **__: object) -> None:
        raise UnavailableError("no connection")

    patching.setattr(Hold, "commit", unanswered)
    committing = asyncio.ensure_future(batch.commit())
    async with asyncio.timeout(WITHIN):
        await reader.progress.until(lambda: reader.state == "backing off")
    yield
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)


async def test_a_commit_that_is_given_up_leaves_the_state_as_it_was(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, 1)
    async with store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        batch = await anext(reader)
        with monkeypatch.context() as patching:
            async with unanswered_commit(reader, batch, patching):
                pass
        assert reader.state == "catching up"
        await batch.commit()


async def test_a_commit_that_is_tried_again_when_the_block_has_ended_says_nothing_of_it(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, 1)
    async with store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        batch = await anext(reader)
        committing = AsyncExitStack()
        await committing.enter_async_context(unanswered_commit(reader, batch, monkeypatch))
    await committing.aclose()
    assert reader.state == "stopped"


async def test_one_that_failed_and_is_started_again_ends_anew(any_store: EventStore) -> None:
    await fill(any_store, 1)
    reader = any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING)
    with pytest.raises(ZeroDivisionError):
        async with reader:
            raise ZeroDivisionError
    assert (reader.state, type(reader.progress.failure)) == ("failed", ZeroDivisionError)

    async with reader:
        assert (reader.state, reader.progress.failure) == ("waiting", None)
        assert await take(reader, 1) == [1]
    assert (reader.state, reader.progress.failure) == ("stopped", None)

    with pytest.raises(InvalidArgumentError):
        async with reader:
            raise InvalidArgumentError("of the caller")
    assert reader.state == "failed"
