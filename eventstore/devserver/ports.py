"""Ports on 127.0.0.1 that nothing listens on.

They are chosen below 32768, where Linux begins to hand out ports to outgoing connections: a server on a higher port
can find it taken, at its next start, by somebody's connection.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from eventstore.devserver.errors import DevServerError

if TYPE_CHECKING:
    from collections.abc import Container

LOOPBACK = "127.0.0.1"
EPHEMERAL_FROM = 32_768
SEARCHED = 1_000


def free_port(preferred: int, *, avoid: Container[int] = ()) -> int:
    """The preferred port, or the next one above it that is free; round to lower ones at 32768.

    Another process can take the port between this answer and the server's start: whoever starts a server tries again
    with `avoid`.
    """
    for offset in range(SEARCHED):
        port = preferred + offset
        if port >= EPHEMERAL_FROM:
            port -= SEARCHED
        if port not in avoid and is_free(port):
            return port
    raise DevServerError(f"no free port on {LOOPBACK} near {preferred}: stop what uses them, or choose another port")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port with only connections in TIME_WAIT, left by the server's last run, is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True
