"""The event that every subject writes and reads: one deposit of 250 bytes of JSON.

This module imports nothing but the standard library, because the peers' environments share it.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

EVENTS_PER_STREAM: Final = 10
"""How many events the throughput rows write to a stream before they begin the next one."""

_VARIANTS: Final = 1024
_NAMESPACE: Final = uuid.UUID("5a2f6c0e-0c5e-4a39-9d0c-3f6c0b9f5d11")


def _fields(number: int) -> dict[str, Any]:
    return {
        "amount": 1_000 + number * 7,
        "currency": "EUR",
        "reference": uuid.uuid5(_NAMESPACE, str(number)).hex,
        "counterparty": f"Muster & Partner GmbH, branch {number:04}",
        "memo": f"Invoice 2024-{number:06}, with thanks for your order of the week",
        "channel": "online",
        "labels": ["salary", "monthly"],
    }


_ALL: Final = [_fields(number) for number in range(_VARIANTS)]


def fields(number: int) -> dict[str, Any]:
    """Return the fields of the `number`-th event; they repeat after 1,024 events."""
    return _ALL[number % _VARIANTS]
