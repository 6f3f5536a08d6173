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

MAX_VERSION: Final = 2**63 - 1
"""The highest stream version that there can be; the database counts in 64 bits."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


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
        if not all(isinstance(part, str) for part in (self.category, self.key, self.tenant or "")):
            raise InvalidArgumentError("the parts of a stream id are strings")
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
            InvalidArgumentError: It is no string.
        """
        if not isinstance(text, str):
            raise InvalidArgumentError(f"a written stream id is a string, not {type(text).__qualname__}")
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


_STREAM_ID_KINDS: Final = (str, StreamId)
"""Kept, because a union of types would be made anew in each append."""


def checked_stream_id(stream_id: str | StreamId) -> str:
    """Return the written form of a stream id of a store without tenants.

    Raises:
        InvalidStreamIdError: It is not of the form `category-key`, or it names a tenant.
        InvalidArgumentError: It is neither a string nor a `StreamId`.
    """
    if not isinstance(stream_id, _STREAM_ID_KINDS):
        raise InvalidArgumentError(f"a stream id is a string or a StreamId, not {type(stream_id).__qualname__}")
    return _checked(stream_id)


@lru_cache(maxsize=65_536)
def _checked(stream_id: str | StreamId) -> str:
    """Parsing is remembered: it is on hot paths."""
    parsed = stream_id if isinstance(stream_id, StreamId) else StreamId.parse(stream_id)
    if parsed.tenant is not None:
        raise InvalidStreamIdError(str(parsed), "this store has no tenants, so '/' is not allowed")
    return str(parsed)


def checked_text(what: str, text: str) -> str:
    """Return a text that a store is asked with, such as a category or where a list goes on.

    Raises:
        InvalidArgumentError: It is no string, or holds what no stored text can hold.
    """
    if not isinstance(text, str):
        raise InvalidArgumentError(f"{what} is a string, not {type(text).__qualname__}")
    if _UNSTORABLE.search(text):
        raise InvalidArgumentError(f"{what} must hold neither a NUL character nor a lone surrogate")
    return text


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
    if isinstance(expected, bool) or not isinstance(expected, int) or not 0 <= expected <= MAX_VERSION:
        raise InvalidArgumentError(
            f"expected_version must be an int from 0 to {MAX_VERSION}, NO_STREAM, STREAM_EXISTS or ANY, "
            f"not {_shown(expected)}"
        )
    return expected


def _shown(value: object) -> str:
    return f"one of {value.bit_length()} bits" if isinstance(value, int) and abs(value) > MAX_VERSION else repr(value)
