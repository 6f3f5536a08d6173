"""Taking one snapshot, and proving that one tells the truth."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError

from eventstore.aggregates import Folded, Shape, load_folded
from eventstore.codec.sameness import same
from eventstore.store import StoredSnapshot

if TYPE_CHECKING:
    from eventstore.store import Operations

log = logging.getLogger(__name__)


async def take_snapshot(operations: Operations, shape: Shape[Any], stream_id: str) -> Folded[Any]:
    """Fold a stream, from its last snapshot on, and keep the result; returns it.

    A stream without events is left as it is, and so is one whose state would not come back as it is. A snapshot of no
    use is forgotten first (and with it those of other shapes): it may stand at the version of the new one, or above.
    """
    folded = await load_folded(operations, shape, stream_id)
    if folded.bad_snapshot:
        log.warning("a snapshot of a stream of %r is unreadable or of another history: it is replaced", shape.category)
        await operations.log.delete_snapshots(stream_id)
    if folded.event_id is not None and folded.version > folded.snapshot_version:
        text = _faithful_text(shape, folded.state)
        if text is not None:
            fingerprint = shape.fingerprint(operations.event_types)
            snapshot = StoredSnapshot(folded.version, folded.event_id, text)
            await operations.log.save_snapshot(stream_id, fingerprint, snapshot)
    return folded


def _faithful_text(shape: Shape[Any], state: Any) -> str | None:
    """Return a state as JSON; None if it would come back changed, because a snapshot must never change a result."""
    try:
        text = shape.dump_state(state)
    except PydanticSerializationError:
        text = None
    if text is not None and _alike(state, shape.load_state(text)):
        return text
    log.warning("no snapshot of a stream of %r: its state does not come back from JSON as it is", shape.category)
    return None


def _alike(state: Any, back: Any) -> bool:
    """Whether two states are the same: `==` is not enough, since a later fold can tell an enum's member from its text.

    Nor is their JSON: a set can be written in more than one order.
    """
    try:
        return same(state, back)
    except Exception:  # noqa: BLE001 - comparing values is anybody's code
        return False


@dataclass(frozen=True, slots=True)
class Verification:
    """What holding a snapshot against a full replay has shown.

    Attributes:
        stream_id: The stream.
        version: Its version.
        snapshot_version: The version of the snapshot that loading started from; 0 when there was none.
        agrees: Whether both ways lead to the same state.
    """

    stream_id: str
    version: int
    snapshot_version: int
    agrees: bool


async def verify_snapshot(operations: Operations, shape: Shape[Any], stream_id: str) -> Verification:
    """Load a stream by its snapshot and by full replay, and compare the states."""
    by_snapshot = await load_folded(operations, shape, stream_id)
    replayed = await load_folded(operations, shape, stream_id, version=by_snapshot.version, use_snapshot=False)
    agrees = by_snapshot.snapshot_version == 0 or _alike(by_snapshot.state, replayed.state)
    return Verification(stream_id, by_snapshot.version, by_snapshot.snapshot_version, agrees)
