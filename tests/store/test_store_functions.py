"""What Python and SQL both compute, they compute alike."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventstore import StreamId, slice_of
from eventstore.errors import InvalidStreamIdError
from eventstore.streams import SLICES, category_of

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
written = st.lists(text | st.from_regex(r"([a-z]+/)*[a-z]*(-[a-z0-9/]*)*", fullmatch=True), min_size=1, max_size=50)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream_ids=written)
@example(
    stream_ids=["order-1", "acme/order-1", "a/b/order-1-2", "order", "-", "/", "/-", "", "é-ü", "order-\U0001f600"]
)
async def test_slice_and_category_are_equal_in_python_and_sql(
    connection: asyncpg.Connection, stream_ids: list[str]
) -> None:
    rows = await connection.fetch(
        "SELECT eventstore.slice_of(id), eventstore.category_of(id)"
        " FROM unnest($1::text[]) WITH ORDINALITY AS t (id, n) ORDER BY n",
        stream_ids,
    )

    assert [tuple(row) for row in rows] == [(slice_of(one), category_of(one)) for one in stream_ids]


def test_slices_never_change() -> None:
    """They are a part of what is stored: shards and groups depend on them."""
    assert SLICES == 1024
    assert {stream_id: slice_of(stream_id) for stream_id in GOLDEN} == GOLDEN
    assert slice_of(StreamId("order", "é")) == GOLDEN["order-é"]


GOLDEN = {"order-1": 943, "order-2": 350, "acme/order-1": 764, "order-é": 93}

part = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="-/"), min_size=1, max_size=20
)
key = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/"), min_size=1, max_size=20)
tenant = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/"), min_size=1, max_size=20
)


@given(category=part, key=key, tenant=st.none() | tenant)
def test_a_stream_id_is_built_and_taken_apart_alike(category: str, key: str, tenant: str | None) -> None:
    built = StreamId(category, key, tenant)

    assert StreamId.parse(str(built)) == built
    assert category_of(str(built)) == category


@given(text=st.text(max_size=60))
def test_whatever_is_taken_apart_is_written_the_same_again(text: str) -> None:
    try:
        parsed = StreamId.parse(text)
    except InvalidStreamIdError:
        return
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("category", "key", "tenant"),
    [
        ("a-b", "1", None),
        ("a/b", "1", None),
        ("", "1", None),
        ("a", "", None),
        ("a", "1/2", None),
        ("a", "1", ""),
        ("a", "1", "t/u"),
    ],
)
def test_parts_that_could_not_be_taken_apart_again_are_refused(category: str, key: str, tenant: str | None) -> None:
    with pytest.raises(InvalidStreamIdError):
        StreamId(category, key, tenant)
