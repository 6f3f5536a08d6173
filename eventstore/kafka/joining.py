"""Being a member of a group: joining, coming again, and leaving.

Joining is the one question that a broker leaves open on purpose, until all members have come. Those who died without a
word are waited for until their sessions are over, those who are at work for as long as a change of the group may take.
aiokafka bounds the question like any other; given up and asked again, it comes from a member that nobody knows yet, and
is answered only once the one that gave up is missed, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.client import ConnectionGroup
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer


def leave_at_the_end(consumer: AIOKafkaConsumer) -> None:
    """Let a consumer that has a name in its group leave it when it is stopped.

    A member with a name is the same one when it comes again, and nobody waits for the session of who it was before; but
    aiokafka leaves it in the group when it stops, and the others would wait for it then.
    """
    if consumer._coordinator is not None:  # noqa: SLF001 - there is no setting for it
        consumer._coordinator._group_instance_id = None  # noqa: SLF001 - and it stops right after


def wait_longer_for_the_group(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Let a consumer wait so long for the answers that depend on other members."""
    client = consumer._client  # noqa: SLF001 - aiokafka has one time-out for all requests
    send, usual = client.send, client._request_timeout_ms / 1000  # noqa: SLF001 - the one it has

    async def patiently(node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        asks_others = isinstance(request, JoinGroupRequest | SyncGroupRequest)
        if not asks_others or not await client.ready(node_id, group=group):
            return await send(node_id, request, group=group)
        connection = client._conns[node_id, group]  # noqa: SLF001 - it has nothing else to do meanwhile
        connection._request_timeout = seconds  # noqa: SLF001 - the one it has
        try:
            return await send(node_id, request, group=group)
        finally:
            connection._request_timeout = usual  # noqa: SLF001 - the one it has

    client.send = patiently
