"""JSON text is taken apart to the letter, wherever white space, escapes and names that look alike stand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.bulk.json_text import JsonReader, NoJsonError
from eventstore.errors import InvalidArgumentError

DATA = '{ "sku" : "t\\u0065a" }'


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "data": @}',
        '{"data": @, "a": 1}',
        '{"data":@}',
        ' {\t"a" : [1] ,\r\n "data"\n:\t@\n} ',
        '{"meta": {"data": 5}, "data": @}',
        '{"data": @, "meta": {"data": 5}}',
        '{"a": "\\"data\\": 1}", "data": @}',
        '{"data": @, "a": " \\"data\\": 1}"}',
        '{"data": @, "x\\"data": 1}',
        '{"data": @, ",\\"data": 1}',
        '{"a": "data", "data": @}',
        '{"d\\u0061ta": @, "a": 1}',
        '{"a": {"a": {"data": 1}}, "d\\u0061ta": @}',
    ],
)
def test_a_member_is_taken_out_to_the_letter(text: str) -> None:
    written = text.replace("@", DATA)

    read = JsonReader().member(written, "data")

    assert (read.text, read.value) == (DATA, {"sku": "tea"})
    assert next(JsonReader().objects(written))["data"] == read


NAMES = st.sampled_from(["data", '"data"', 'x"data', ",", "a", "metadata", "\\", " "])
VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.none(), NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, VALUES), VALUES, st.sampled_from([None, 1]), st.booleans())
def test_any_object_is_taken_apart_as_json_reads_it(
    beside: dict[str, Any], data: Any, indent: int | None, comes_last: bool
) -> None:
    value = {**{name: each for name, each in beside.items() if name != "data" or not comes_last}, "data": data}
    text = json.dumps(value, indent=indent)

    (members,) = JsonReader().objects(text)

    assert {name: member.value for name, member in members.items()} == value
    assert {name: json.loads(member.text) for name, member in members.items()} == value
    assert JsonReader().member(text, "data") == members["data"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "column 1: it is not JSON: Expecting value"),
        ("{", "column 2: it is not JSON: Expecting property name"),
        ('{"a" 1}', "column 6: it is not JSON: Expecting ':' delimiter"),
        ('{"a": 1 "b"}', "column 9: it is not JSON: Expecting ',' delimiter"),
        ('{"a": 1,}', "Expecting property name"),
        ('{"a": }', "column 7: it is not JSON: Expecting value"),
        ("[{}, ]", "column 6: it is not JSON: Expecting value"),
        ("[{} {}]", "column 5: it is not JSON: Expecting ',' delimiter"),
        ("{} x", "column 4: it is not JSON: Expecting value"),
        ("{1: 2}", "column 2: it is not JSON: Expecting property name"),
    ],
)
def test_what_is_no_json_is_named_by_its_place(text: str, said: str) -> None:
    reader = JsonReader()
    with pytest.raises(NoJsonError) as raised:
        list(reader.objects(text) if text else [reader.value(text)])

    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {"hunter2": 1, "hunter2": 2}}', "a name twice"),
        ('{"a": 1, "\\u0061": 2}', "a name twice"),
        ('{"a": 1e999}', "too large"),
        ('{"a": -Infinity}', "-Infinity, which is no JSON"),
        ('{"a": ' + "9" * 5000 + "}", "a number too long"),
        ('{"a": ' + "[" * 100_000, "too deep"),
        ("[1]", "it is no object"),
    ],
)
def test_json_that_would_lose_something_is_refused_without_its_values(text: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said) as raised:
        list(JsonReader().objects(text))

    assert "hunter2" not in str(raised.value)


def test_what_stands_behind_a_value_is_refused() -> None:
    with pytest.raises(NoJsonError, match="column 3: it is not JSON: Extra data"):
        JsonReader().value("1 2")
