"""Groups: one publisher's work split by slice, so that several processes share it.

Everything that makes publishing exactly once belongs to the group and never to an instance: its transactional id, its
cursor, its mirror and its lease. So whoever takes a group over fences whoever had it.

A publisher of one group has the plain names; of several, each group's end with `/1of4` (`-1of4` in the name of a topic,
which can have no slash). The number of groups is a part of the names: changing it is a migration, see
`kafka.regrouping`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eventstore.streams import SLICES, slice_of

if TYPE_CHECKING:
    from eventstore.outbox.publisher import Publisher

MAX_GROUPS: Final = 64
"""Each group reads the whole log, and leaves out at the server what is not its own: more would only read."""

_CHECKPOINTS: Final = "publisher:"


@dataclass(frozen=True, slots=True)
class Group:
    """A share of a publisher's streams.

    Attributes:
        publisher: The publisher.
        number: Which one, from 1.
        of: How many there are.
    """

    publisher: Publisher
    number: int = 1
    of: int = 1

    @property
    def name(self) -> str:
        """What people call it."""
        return group_name(self.publisher.name, self.number, self.of)

    @property
    def fencing_id(self) -> str:
        """What whoever works for it calls itself at the broker, so that a new one fences the old one out."""
        return group_name(self.publisher.fencing_id, self.number, self.of)

    @property
    def cursor_topic(self) -> str:
        """The topic that holds nothing but how far it has come."""
        return self.publisher.cursor_topic + ("" if self.of == 1 else f"-{self.number}of{self.of}")

    @property
    def checkpoint_name(self) -> str:
        """The name of its lease, and of the mirror of its cursor among the store's checkpoints."""
        return publisher_checkpoint(self.name)

    @property
    def slices(self) -> tuple[int, int] | None:
        """The first and the last slice of its streams; None for all."""
        if self.of == 1:
            return None
        return (self.number - 1) * SLICES // self.of, self.number * SLICES // self.of - 1

    def owns(self, stream_id: str) -> bool:
        """Whether a stream is one of its own."""
        if self.slices is None:
            return True
        first, last = self.slices
        return first <= slice_of(stream_id) <= last


def group_name(publisher: str, number: int, of: int) -> str:
    """Return what people call a group; a publisher of one group has none beside itself."""
    return publisher if of == 1 else f"{publisher}/{number}of{of}"


def is_one_of_several(name: str) -> bool:
    """Whether this is the name of a group among others."""
    return "/" in name


def publisher_checkpoint(name: str) -> str:
    """Return the name of a group's lease and checkpoint."""
    return f"{_CHECKPOINTS}{name}"
