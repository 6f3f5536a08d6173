"""The ids that events get when nobody chooses them: of version 7, in the order of time, and never two alike."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventstore.clock import uuid7

MANY = 2000  # more than are fetched from the system at a time

FORKING = f"""
import os
from eventstore.clock import uuid7

first = uuid7()  # some are fetched, and most of them left
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, "\\n".join(str(uuid7()) for _ in range({MANY} // 100)).encode())
    os._exit(0)
os.wait()
os.close(writing)
print(os.read(reading, 1 << 16).decode())
print("\\n".join(str(uuid7()) for _ in range({MANY} // 100)))
"""


def random_bits(one: uuid.UUID) -> int:
    return one.int & ((1 << 62) - 1)


def test_an_id_is_of_version_7_and_holds_the_time_of_its_making() -> None:
    before = time.time_ns() // 1_000_000
    ids = [uuid7() for _ in range(MANY)]
    after = time.time_ns() // 1_000_000
    assert {one.version for one in ids} == {7}
    assert {one.variant for one in ids} == {uuid.RFC_4122}
    assert all(before <= one.int >> 80 <= after for one in ids)
    assert ids == [uuid.UUID(str(one)) for one in ids]


def test_each_of_the_74_random_bits_is_random() -> None:
    ids = [uuid7().int for _ in range(MANY)]
    fixed = {48, 49, 50, 51, 64, 65, *range(48)}  # counted from the left: version, variant, time
    for place in sorted(set(range(128)) - fixed):
        ones = sum(one >> (127 - place) & 1 for one in ids)
        assert abs(ones - MANY / 2) < 6 * (MANY / 4) ** 0.5, f"bit {place} is set in {ones} of {MANY}"  # six sigmas


def test_no_two_threads_give_the_same() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = [one for each in threads.map(lambda _: [uuid7() for _ in range(MANY)], range(16)) for one in each]
    assert len({random_bits(one) for one in made}) == 16 * MANY


@pytest.mark.skipif(sys.platform == "win32", reason="no process is forked there")
def test_a_process_that_was_forked_gives_none_that_its_parent_gives() -> None:
    ran = subprocess.run([sys.executable, "-c", FORKING], check=True, capture_output=True, text=True)  # noqa: S603 - ours
    made = [uuid.UUID(line) for line in ran.stdout.split()]
    assert len(made) == 2 * (MANY // 100)
    assert len({random_bits(one) for one in made}) == len(made)
