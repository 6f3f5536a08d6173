"""The ids that Kafka gives its topics: a topic that was deleted and made again has the same name and another id.

aiokafka speaks no version of the protocol that tells them, so the question is put together here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields
from typing_extensions import override

from eventstore.kafka.answers import answer_of_any

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

_NONE = UUID(int=0)


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka is untyped
    @classmethod
    @override
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    @override
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Answer(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Answer
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[_Question]):  # type: ignore[misc]
    API_KEY = 3
    _CLASSES = (_Question,)

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    @override
    def build(self, request_struct_class: type[_Question]) -> _Question:
        return request_struct_class([(_NONE, name, {}) for name in self._topics], False, False, {})  # noqa: FBT003 - by place, as sent


async def topic_ids(client: AIOKafkaClient, topics: Collection[str], within: float) -> Mapping[str, UUID]:
    """Return the ids of those of some topics that exist and whose cluster gives ids (Kafka 2.8 and later do).

    Raises:
        UnavailableError: Kafka does not answer.
    """
    found: Any = await answer_of_any(
        lambda: client.send(client.get_random_node(), _Metadata(topics)), "asking for topic ids", within
    )
    return {name: topic_id for code, name, topic_id, *_ in found.topics if not code and topic_id != _NONE}
