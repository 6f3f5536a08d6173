"""Ask a PostgreSQL server one question, in as much of its protocol as that takes.

The driver is asynchronous and pools; a start-up check is neither, and runs where no event loop does.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventstore.devserver.ports import LOOPBACK
from eventstore.devserver.server import ProbeError

if TYPE_CHECKING:
    from io import BufferedRWPair

PROTOCOL_3 = 196_608


@dataclass(frozen=True, slots=True)
class _Message:
    kind: bytes
    body: bytes


def ask(port: int, query: str, *, timeout: float) -> str:
    """The first column of the first row of a query's result, as text.

    It is asked as the superuser `postgres` of the server on 127.0.0.1, without a password. `timeout` is in seconds,
    for each step. Raises ProbeError when there is no answer.
    """
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout=timeout) as connection,
            connection.makefile("rwb") as stream,
        ):
            start = struct.pack("!I", PROTOCOL_3) + b"user\0postgres\0database\0postgres\0\0"
            stream.write(struct.pack("!I", len(start) + 4) + start)
            _until_ready(stream)
            text = query.encode() + b"\0"
            stream.write(b"Q" + struct.pack("!I", len(text) + 4) + text)
            rows = [message.body for message in _until_ready(stream) if message.kind == b"D"]
            stream.write(b"X" + struct.pack("!I", 4))
            stream.flush()
    except (OSError, EOFError) as error:
        raise ProbeError(str(error)) from error
    if not rows:
        raise ProbeError("no rows")
    (length,) = struct.unpack_from("!i", rows[0], 2)
    return rows[0][6 : 6 + max(length, 0)].decode()


def _until_ready(stream: BufferedRWPair) -> list[_Message]:
    """All messages before ReadyForQuery."""
    stream.flush()
    messages: list[_Message] = []
    while True:
        kind = _exactly(stream, 1)
        (length,) = struct.unpack("!I", _exactly(stream, 4))
        message = _Message(kind, _exactly(stream, length - 4))
        if kind == b"E":
            fields = {part[:1]: part[1:] for part in message.body.split(b"\0") if part}
            raise ProbeError(fields.get(b"M", b"an error").decode(errors="replace"))
        if kind == b"Z":
            return messages
        messages.append(message)


def _exactly(stream: BufferedRWPair, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the server closed the connection")
    return data
