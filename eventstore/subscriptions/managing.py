"""Moving and forgetting the checkpoints of subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.errors import SubscriptionInUseError
from eventstore.events import Position
from eventstore.subscriptions.checkpoints import Checkpoints
from eventstore.subscriptions.leases import Leases, new_owner
from eventstore.subscriptions.reader import subscription_checkpoint
from eventstore.subscriptions.starting import Start, checked_start, place_of

if TYPE_CHECKING:
    from eventstore.store import EventStore


async def reset_subscription(store: EventStore, name: str, *, to: Start) -> Position:
    """Let a subscription go on from another place; returns the position that it goes on after.

    Whoever reads it loses the turn, and begins again there by itself: what it has in hand cannot be committed any more.

    Args:
        store: The store.
        name: The subscription.
        to: `BEGINNING`, `END`, a `Position` (it goes on after), or `recorded_from(time)`.

    Raises:
        InvalidArgumentError: The log has not come to the position.
    """
    key = subscription_checkpoint(name)
    place = await place_of(store.log, checked_start(to))
    leases = Leases(store.log.session)
    lease = await leases.seize(key, new_owner())
    try:
        await Checkpoints(store.log.session).reset(key, place.under(lease.epoch))
    finally:
        await leases.release_quietly(lease)
    return Position(place.position)


async def delete_subscription(store: EventStore, name: str) -> None:
    """Forget how far a subscription has come: its name begins at its start again.

    Raises:
        SubscriptionInUseError: Somebody reads it.
    """
    key = subscription_checkpoint(name)
    leases = Leases(store.log.session)
    lease = await leases.try_acquire(key, new_owner())
    if lease is None:
        raise SubscriptionInUseError(name, await leases.owner(key) or "somebody")
    try:
        await Checkpoints(store.log.session).delete(key)
    finally:
        await leases.release_quietly(lease)
