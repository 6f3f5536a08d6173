"""Streams: their ids, the version a writer expects, and the slice a stream belongs to."""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from eventstore.errors import InvalidArgumentError, InvalidStreamIdError

MAX_STREAM_ID_BYTES: Final = 255
"""The longest stream id, in UTF-8 bytes: it is part of two indexes and the key of every Kafka record."""

SLICES: Final = 1024
"""The number of slices that streams are spread over; part of the stored contract, it never changes."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class StreamId:
    """The identity of a stream, written `[tenant/]category-key`.

    Attributes:
        category: The kind of thing, such as `order`: not empty, neither `-` nor `/` in it.
        key: Which one of them, such as `42`: not empty, no `/` in it (a `-` is fine).
        tenant: Whose it is, in a store with tenants: not empty, no `/` in it.

    Raises:
        InvalidStreamIdError: A part is empty, holds a separator or a control character, or the whole is too long.
    """

    category: str
    key: str
    tenant: str | None = None

    def __post_init__(self) -> None:
        if "-" in self.category or "/" in self.category:
            raise InvalidStreamIdError(str(self), "a category has neither '-' nor '/'")
        if "/" in self.key:
            raise InvalidStreamIdError(str(self), "a key has no '/'")
        if self.tenant is not None and (not self.tenant or "/" in self.tenant):
            raise InvalidStreamIdError(str(self), "a tenant is not empty and has no '/'")
        _check_text(str(self))
        if not self.category or not self.key:
            raise InvalidStreamIdError(str(self), "category and key must not be empty")

    def __str__(self) -> str:
        prefix = f"{self.tenant}/" if self.tenant is not None else ""
        return f"{prefix}{self.category}-{self.key}"

    @classmethod
    def parse(cls, text: str) -> StreamId:
        """Take a written stream id apart.

        Raises:
            InvalidStreamIdError: It is not of the form `[tenant/]category-key`.
        """
        tenant, slash, rest = text.rpartition("/")
        category, dash, key = rest.partition("-")
        if not text:
            raise InvalidStreamIdError(text, "it is empty")
        if not dash:
            raise InvalidStreamIdError(text, "there is no '-' between category and key")
        return cls(category, key, tenant if slash else None)


def _check_text(text: str) -> None:
    if _CONTROL.search(text):
        raise InvalidStreamIdError(text, "it holds a control character (NUL, tab, newline, ...)")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidStreamIdError(ascii(text), "it holds a lone surrogate, which is no character") from None
    if size > MAX_STREAM_ID_BYTES:
        raise InvalidStreamIdError(text, f"it takes {size} bytes, at most {MAX_STREAM_ID_BYTES} are allowed")


@lru_cache(maxsize=65_536)
def checked_stream_id(stream_id: str | StreamId) -> str:
    """Return the written form of a stream id of a store without tenants; parsing is remembered, it is on hot paths.

    Raises:
        InvalidStreamIdError: It is not of the form `category-key`, or it names a tenant.
    """
    parsed = stream_id if isinstance(stream_id, StreamId) else StreamId.parse(stream_id)
    if parsed.tenant is not None:
        raise InvalidStreamIdError(str(parsed), "this store has no tenants, so '/' is not allowed")
    return str(parsed)


def category_of(stream_id: str) -> str:
    """Return the category of a written stream id, as the SQL function `category_of` does."""
    return stream_id.rpartition("/")[2].partition("-")[0]


def slice_of(stream_id: str | StreamId) -> int:
    """Return the slice of a stream, 0 to 1023: the low ten bits of the first two bytes of its SHA-256.

    Equal to the SQL function `slice_of`, so that services, workers and shards agree about who owns a stream.
    """
    digest = hashlib.sha256(str(stream_id).encode()).digest()
    return (digest[0] << 8 | digest[1]) & (SLICES - 1)


class ExpectedVersion(enum.Enum):
    """What a writer expects of a stream when it names no version; the values are what the SQL functions take."""

    NO_STREAM = 0
    """The stream has no events yet. The same as version 0."""
    STREAM_EXISTS = -1
    """The stream has at least one event."""
    ANY = -2
    """Whatever is there: the events are appended behind it."""

    def __str__(self) -> str:
        return self.name


NO_STREAM: Final = ExpectedVersion.NO_STREAM
STREAM_EXISTS: Final = ExpectedVersion.STREAM_EXISTS
ANY: Final = ExpectedVersion.ANY


def wire_version(expected: int | ExpectedVersion) -> int:
    """Return an expected version as the SQL functions take it.

    Raises:
        InvalidArgumentError: It is neither a version (an int from 0) nor a member of `ExpectedVersion`.
    """
    if isinstance(expected, ExpectedVersion):
        return expected.value
    if isinstance(expected, bool) or not isinstance(expected, int) or expected < 0:
        raise InvalidArgumentError(
            f"expected_version must be an int >= 0, NO_STREAM, STREAM_EXISTS or ANY, not {expected!r}"
        )
    return expected
