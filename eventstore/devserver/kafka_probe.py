"""Ask a Kafka broker which cluster it is, in as much of its protocol as that takes.

A broker answers only once it serves clients: an answer is readiness, which an open port is not.
"""

from __future__ import annotations

import socket
import struct

from eventstore.devserver.ports import LOOPBACK
from eventstore.devserver.server import ProbeError

METADATA = 3
METADATA_VERSION = 2  # the first that tells the cluster's id; Kafka 4 still answers it
CORRELATION = 1
MAX_ANSWER_BYTES = 1_000_000


def cluster_id(port: int, *, host: str = LOOPBACK, timeout: float) -> str:
    """The id of the cluster whose broker listens there. `timeout` is in seconds, for each step.

    Raises ProbeError when no broker answers, or one that no broker has registered with yet.
    """
    client = b"pg-eventstore"
    request = struct.pack(">hhih", METADATA, METADATA_VERSION, CORRELATION, len(client)) + client
    request += struct.pack(">i", 0)  # about no topic
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as connection,
            connection.makefile("rb") as stream,
        ):
            connection.sendall(struct.pack(">i", len(request)) + request)
            (length,) = struct.unpack(">i", stream.read(4))
            if not 0 < length <= MAX_ANSWER_BYTES:
                raise ProbeError("what answers is not Kafka")
            answer = _Reader(stream.read(length))
        answer.number("i")  # the correlation
        brokers = answer.number("i")
        for _ in range(brokers):
            answer.number("i")  # the broker's id
            answer.text()  # its host
            answer.number("i")  # its port
            answer.text()  # its rack
        cluster = answer.text()
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise ProbeError(str(error)) from error
    if not brokers:
        raise ProbeError("no broker has registered yet")
    return cluster


class _Reader:
    """Takes Kafka's primitive types off the front of an answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from(f">{code}", self._data, self._at)
        self._at += struct.calcsize(code)
        return int(value)

    def text(self) -> str:
        length = max(self.number("h"), 0)  # null is -1
        self._at += length
        return self._data[self._at - length : self._at].decode()
