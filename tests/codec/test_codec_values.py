"""The same promise as the campaign's, with Hypothesis as the chance: what it finds is made small."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.clock import uuid7
from eventstore.codec import Codec, StoredEvent
from eventstore.codec.selection import EVERYTHING
from eventstore.errors import UnstorablePayloadError
from eventstore.metadata import NO_METADATA
from eventstore.testing import FakeClock
from fixtures.values import MAX_PAYLOAD, Payloads, described, types

codec = Codec(types, clock=FakeClock(), new_id=uuid7, max_payload=MAX_PAYLOAD)


@settings(max_examples=1000)
@given(chance=st.randoms(use_true_random=False))
def test_any_event_comes_back_identical_or_is_refused(chance: random.Random) -> None:
    event = Payloads(chance, hostile=0.1).event()
    try:
        encoded = codec.encode(event, NO_METADATA)
    except UnstorablePayloadError:
        return

    (back,) = codec.decode(StoredEvent(1, "a-1", 1, *encoded[:-1], recorded_at=encoded.occurred_at), EVERYTHING)
    assert described(back.data) == described(event)


@settings(max_examples=300)
@given(chance=st.randoms(use_true_random=False))
def test_nothing_tame_is_ever_refused(chance: random.Random) -> None:
    codec.encode(Payloads(chance).tame(), NO_METADATA)
