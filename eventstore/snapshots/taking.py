"""Taking one snapshot, and proving that one tells the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstore.aggregates import Folded, Shape, load_folded
from eventstore.store import StoredSnapshot

if TYPE_CHECKING:
    from eventstore.store import Operations


async def take_snapshot(operations: Operations, shape: Shape[Any], stream_id: str) -> Folded[Any]:
    """Fold a stream, from its last snapshot on, and keep the result; returns it. A stream without events is left."""
    folded = await load_folded(operations, shape, stream_id)
    if folded.event_id is not None and folded.version > folded.snapshot_version:
        fingerprint = shape.fingerprint(operations.event_types)
        snapshot = StoredSnapshot(folded.version, folded.event_id, shape.dump_state(folded.state))
        await operations.log.save_snapshot(stream_id, fingerprint, snapshot)
    return folded


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
    agrees = shape.dump_state(by_snapshot.state) == shape.dump_state(replayed.state)
    return Verification(stream_id, by_snapshot.version, by_snapshot.snapshot_version, agrees)
