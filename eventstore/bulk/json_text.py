"""JSON text: read so that nothing in it is lost, and taken apart without a change."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eventstore.bulk.digits import is_kept, is_within_floats
from eventstore.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANKS: Final = " \t\r\n"


class NoJsonError(InvalidArgumentError):
    """A text is not JSON.

    Attributes:
        line: The line of what is wrong, from 1.
        reason: What was expected there.
    """

    def __init__(self, reason: str, text: str, at: int) -> None:
        place = json.JSONDecodeError(reason, text, at)
        self.line = place.lineno
        self.reason = reason
        super().__init__(f"column {place.colno}: it is not JSON: {reason}")


class JsonText(NamedTuple):
    """A JSON value as it was written, and what it says.

    Attributes:
        text: Its text, to the letter.
        value: What Python makes of it.
        is_exact: Whether a float keeps all of its numbers.
    """

    text: str
    value: Any
    is_exact: bool = True

    def __repr__(self) -> str:
        return f"JsonText({len(self.text)} characters)"


class JsonReader:
    """Reads JSON that says each thing once, and that Python has values for; for one thread at a time.

    Raises:
        NoJsonError: A text is not JSON.
        InvalidArgumentError: It is, but not such as can be read without a loss. No error shows what values it holds.
    """

    def __init__(self) -> None:
        self._is_exact = True
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_without_repetition,
            parse_float=self._float,
            parse_int=self._int,
            parse_constant=_no_constant,
        )

    def value(self, text: str) -> JsonText:
        """Return the value that a text is."""
        cursor = _Cursor(text)
        read = self._value(cursor)
        cursor.require_end()
        return read

    def member(self, text: str, name: str) -> JsonText:
        """Return a member of an object that is JSON and has it; soonest if it is the first or the last one."""
        at = text.find(f'"{name}"')
        if at > 0 and text[at - 1] in "{," + _BLANKS:  # so the quotes are a string's own
            cursor = _Cursor(text, at + len(name) + 2)
            if cursor.takes(":"):
                found = self._value(cursor)
                # Where nothing but one brace stands before it or behind it, it is in no other object than this one.
                if text[:at].strip(_BLANKS) == "{" or (cursor.takes("}") and cursor.is_at_end()):
                    return found
        return self._members(_Cursor(text))[name]

    def objects(self, text: str) -> Iterator[dict[str, JsonText]]:
        """Yield the members of each of the objects that follow each other in a text, or stand in lists there."""
        cursor = _Cursor(text)
        while not cursor.is_at_end():
            if not cursor.takes("["):
                yield self._members(cursor)
            elif not cursor.takes("]"):
                yield self._members(cursor)
                while not cursor.takes("]"):
                    cursor.require(",")
                    yield self._members(cursor)

    def _members(self, cursor: _Cursor) -> dict[str, JsonText]:
        if not cursor.takes("{"):
            self._value(cursor)
            raise InvalidArgumentError("the event: it is no object")
        members: dict[str, JsonText] = {}
        if cursor.takes("}"):
            return members
        while True:
            name = self._name(cursor)
            if name in members:
                raise _repeated()
            cursor.require(":")
            members[name] = self._value(cursor)
            if cursor.takes("}"):
                return members
            cursor.require(",")

    def _name(self, cursor: _Cursor) -> str:
        if not cursor.is_at('"'):
            raise NoJsonError("Expecting property name enclosed in double quotes", cursor.text, cursor.at)
        name: str = self._value(cursor).value
        return name

    def _value(self, cursor: _Cursor) -> JsonText:
        text, begin, self._is_exact = cursor.text, cursor.at, True
        try:
            value, cursor.at = self._decoder.raw_decode(text, begin)
        except json.JSONDecodeError as error:
            raise NoJsonError(error.msg, text, error.pos) from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, InvalidArgumentError):
                raise
            raise InvalidArgumentError("it is not JSON that can be read: too deep, or a number too long") from None
        return JsonText(text[begin : cursor.at], value, self._is_exact)

    def _float(self, text: str) -> float:
        number = float(text)
        if not isfinite(number):
            raise InvalidArgumentError("it holds a number that is too large, which would be read as infinity")
        self._is_exact = self._is_exact and is_kept(text)
        return number

    def _int(self, text: str) -> int:
        self._is_exact = self._is_exact and is_within_floats(text)
        return int(text)


class _Cursor:
    """A place in a text."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self._pass_blanks()

    def is_at(self, mark: str) -> bool:
        """Whether a mark comes next, but for white space, which is passed over."""
        self._pass_blanks()
        return self.text.startswith(mark, self.at)

    def is_at_end(self) -> bool:
        """Whether nothing comes any more, but for white space."""
        self._pass_blanks()
        return self.at == len(self.text)

    def takes(self, mark: str) -> bool:
        """Move behind a mark, and white space, if it comes next; returns whether it did."""
        if not self.is_at(mark):
            return False
        self.at += 1
        self._pass_blanks()
        return True

    def require(self, mark: str) -> None:
        """Move behind a mark, which must come next."""
        if not self.takes(mark):
            raise NoJsonError(f"Expecting {mark!r} delimiter", self.text, self.at)

    def require_end(self) -> None:
        """Be at the end."""
        if not self.is_at_end():
            raise NoJsonError("Extra data", self.text, self.at)

    def _pass_blanks(self) -> None:
        text, at = self.text, self.at
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        self.at = at


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _repeated()
    return made


def _repeated() -> InvalidArgumentError:
    """Return the error, without the name: that may be payload."""
    return InvalidArgumentError("an object in it has a name twice, and one of the values would be lost")


def _no_constant(text: str) -> None:
    raise InvalidArgumentError(f"it holds {text}, which is no JSON")
