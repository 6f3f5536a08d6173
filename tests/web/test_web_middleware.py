"""A request's correlation id reaches the events that it causes, and its answer; a stranger's mistakes do no harm."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest

from eventstore import NO_STREAM, EventStore, current_metadata, metadata
from eventstore.metadata import MAX_ID_LENGTH, NO_METADATA
from eventstore.testing import memory_store
from eventstore.web import MetadataMiddleware
from fixtures.shop import app as shop
from fixtures.shop import placed

Headers = Sequence[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]


class Service:
    """An ASGI application that appends one event for each request to the path it names."""

    def __init__(self) -> None:
        self.store: EventStore = memory_store(shop)
        self.scopes: list[str] = []
        self.between = asyncio.Event()
        self.between.set()

    async def __call__(self, scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:
        self.scopes.append(scope["type"])
        if scope["type"] == "lifespan":
            assert current_metadata() is NO_METADATA
            return
        await self.between.wait()
        await self.store.append(scope["path"][1:], [placed()], expected_version=NO_STREAM)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
            await send({"type": "http.response.body", "body": b"done"})
        else:
            await send({"type": "websocket.accept"})

    async def correlation_of(self, stream_id: str) -> str | None:
        (event,) = await self.store.read_stream(stream_id).to_list()
        return event.correlation_id


async def receive() -> Message:
    """Receive nothing."""
    return {"type": "http.request", "body": b""}


async def call(app: Any, path: str, headers: Headers = (), kind: str = "http") -> list[Message]:
    """Send a request; returns the messages of the answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": kind, "path": f"/{path}", "headers": headers}, receive, send)
    return sent


def answered(sent: list[Message], name: bytes = b"x-correlation-id") -> list[bytes]:
    return [value for key, value in sent[0]["headers"] if key == name]


@pytest.mark.parametrize("name", [b"x-correlation-id", b"X-Correlation-ID"])
async def test_the_headers_id_reaches_event_and_answer(name: bytes) -> None:
    service = Service()

    sent = await call(MetadataMiddleware(service), "order-1", [(b"accept", b"*/*"), (name, b"request 7")])

    assert await service.correlation_of("order-1") == "request 7"
    assert answered(sent) == [b"request 7"]
    assert answered(sent, b"x-own") == [b"1"]
    assert sent[1] == {"type": "http.response.body", "body": b"done"}


async def test_a_request_without_one_gets_a_fresh_one() -> None:
    service = Service()
    app = MetadataMiddleware(service)

    first, second = await call(app, "order-1"), await call(app, "order-2")

    given = [answered(first)[0].decode(), answered(second)[0].decode()]
    assert given == [await service.correlation_of("order-1"), await service.correlation_of("order-2")]
    assert len({uuid.UUID(one) for one in given}) == 2


@pytest.mark.parametrize(
    "value",
    [b"", b"x" * (MAX_ID_LENGTH + 1), b"caf\xe9", b"\xff\xfe", b"a\x00b", b"a\r\nset-cookie: b", b"\x7f", b"\t"],
)
async def test_a_bad_header_is_ignored(value: bytes) -> None:
    service = Service()

    sent = await call(MetadataMiddleware(service), "order-1", [(b"x-correlation-id", value)])

    (answer,) = answered(sent)
    assert await service.correlation_of("order-1") == str(uuid.UUID(answer.decode()))


async def test_an_id_of_the_full_length_is_taken() -> None:
    service = Service()
    value = b"x" * MAX_ID_LENGTH

    assert answered(await call(MetadataMiddleware(service), "order-1", [(b"x-correlation-id", value)])) == [value]
    assert await service.correlation_of("order-1") == value.decode()


async def test_the_header_can_have_another_name() -> None:
    service = Service()
    app = MetadataMiddleware(service, header="X-Request-Id")

    sent = await call(app, "order-1", [(b"x-correlation-id", b"no"), (b"x-request-id", b"yes")])

    assert await service.correlation_of("order-1") == "yes"
    assert answered(sent, b"x-request-id") == [b"yes"]


async def test_requests_at_once_do_not_see_each_others() -> None:
    service = Service()
    app = MetadataMiddleware(service)
    service.between.clear()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(call(app, f"order-{number}", [(b"x-correlation-id", b"c%d" % number)]))
        await asyncio.sleep(0)
        service.between.set()

    assert [await service.correlation_of(f"order-{n}") for n in range(5)] == [f"c{n}" for n in range(5)]
    assert current_metadata() is NO_METADATA


async def test_what_is_said_inside_the_request_wins() -> None:
    store = memory_store(shop)

    async def service(_scope: Any, _receive: Any, _send: Any) -> None:
        with metadata(correlation_id="own", actor="alice"):
            await store.append("order-1", [placed()], expected_version=NO_STREAM)

    await call(MetadataMiddleware(service), "order-1", [(b"x-correlation-id", b"header")])

    (event,) = await store.read_stream("order-1").to_list()
    assert (event.metadata.correlation_id, event.metadata.actor) == ("own", "alice")


async def test_web_sockets_have_one_too() -> None:
    service = Service()

    sent = await call(MetadataMiddleware(service), "order-1", [(b"x-correlation-id", b"socket")], kind="websocket")

    assert await service.correlation_of("order-1") == "socket"
    assert sent == [{"type": "websocket.accept"}]


async def test_the_lifespan_passes_untouched() -> None:
    service = Service()

    assert await call(MetadataMiddleware(service), "", kind="lifespan") == []
    assert service.scopes == ["lifespan"]


async def test_nothing_stays_behind_when_the_service_fails() -> None:
    async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(MetadataMiddleware(failing), "order-1", [(b"x-correlation-id", b"x")])
    assert current_metadata() is NO_METADATA
