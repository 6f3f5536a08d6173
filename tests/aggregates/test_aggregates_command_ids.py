"""Ids derived from a command: the same for the same command, and growing where the command's id does."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from eventstore.clock import command_event_id, uuid7

COMMANDS = {"any text": "request-7", "a UUIDv4": str(uuid4()), "a UUIDv7": str(uuid7())}


@pytest.mark.parametrize("command_id", COMMANDS.values(), ids=COMMANDS)
def test_a_command_repeats_its_ids_and_no_two_of_them_are_the_same(command_id: str) -> None:
    ids = [command_event_id(command_id, stream, number) for stream in ("order-1", "order-2") for number in range(500)]

    assert ids == [command_event_id(command_id, stream, n) for stream in ("order-1", "order-2") for n in range(500)]
    assert len(set(ids)) == 1000


def test_two_commands_of_one_moment_have_ids_of_their_own() -> None:
    moment = uuid7().int >> 80 << 80
    first, second = (str(UUID(int=moment | 0x7 << 76 | 0x2 << 62 | number)) for number in (1, 2))

    assert command_event_id(first, "order-1", 0) != command_event_id(second, "order-1", 0)


def test_ids_grow_with_commands_that_do() -> None:
    """Ids that are nothing but a hash take the index of ids a page at random each."""
    commands = sorted(str(UUID(int=time << 80 | 0x7 << 76 | 0x2 << 62)) for time in range(1, 100))
    ids = [command_event_id(command, "order-1", 0) for command in commands]

    assert ids == sorted(ids)
    assert {(each.version, each.variant) for each in ids} == {(7, "specified in RFC 4122")}
