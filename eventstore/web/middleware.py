"""A pure ASGI middleware: a request's correlation id goes into every event that the request appends."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from eventstore.metadata import MAX_ID_LENGTH, metadata

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class MetadataMiddleware:
    """Takes the correlation id from a request's header, or makes one, and answers with it.

    Args:
        app: The ASGI application, such as a FastAPI or Starlette one: `app.add_middleware(MetadataMiddleware)`.
        header: The header's name.

    A header that is empty, too long or not printable ASCII is a stranger's mistake and no reason to fail: it is
    ignored, and a fresh id is used.
    """

    def __init__(self, app: AsgiApp, header: str = "x-correlation-id") -> None:
        self._app = app
        self._header = header.lower().encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        correlation_id = self._given(scope) or str(uuid.uuid4())

        async def send_with_header(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer = (self._header, correlation_id.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", ()), answer]}
            await send(message)

        with metadata(correlation_id=correlation_id):
            await self._app(scope, receive, send_with_header)

    def _given(self, scope: Scope) -> str | None:
        for name, value in scope.get("headers", ()):
            if name.lower() == self._header:
                text = bytes(value).decode("latin-1")
                usable = text.isascii() and text.isprintable() and 0 < len(text) <= MAX_ID_LENGTH
                return text if usable else None
        return None
