"""What the package promises of itself: its layers, its public names, what it loads, and what it never shows."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

import eventstore
from eventstore import NO_STREAM, EventStore, EventTypes, NewEvent, RawEvent, errors
from eventstore.clock import system_clock, uuid7
from eventstore.codec import Codec, Selection
from eventstore.errors import EventStoreError, UnstorablePayloadError
from eventstore.store.log import LogRange
from eventstore.testing import memory_store
from fixtures.shop import NoteTaken, app

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent.parent
SECRET = "the-patients-diagnosis"  # noqa: S105 - a payload


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of code in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_each_line_imports_only_the_lines_below_it() -> None:
    pytest.importorskip("importlinter")
    checked = python("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 kept, 0 broken" in checked.stdout


@pytest.mark.parametrize("name", eventstore.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    value = getattr(eventstore, name)

    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value)
        assert "__doc__" not in vars(value) or value.__doc__


def test_public_names_are_sorted_and_named_once() -> None:
    assert len(set(eventstore.__all__)) == len(eventstore.__all__)
    assert not [name for name in eventstore.__all__ if name.startswith("_")]


@pytest.mark.parametrize("kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass)], ids=str)
def test_every_error_is_of_one_tree_and_says_what_to_do(kind: type[Exception]) -> None:
    assert kind.__name__ in errors.__all__
    assert issubclass(kind, EventStoreError)
    assert kind.__doc__
    assert isinstance(kind.retryable, bool)


def test_importing_the_package_loads_neither_kafka_nor_alembic_nor_the_command_line() -> None:
    heavy = ("aiokafka", "alembic", "sqlalchemy", "typer", "rich", "eventstore.cli", "eventstore.kafka", "pytest")
    loaded = python(f"import sys, eventstore; print([name for name in {heavy!r} if name in sys.modules])")

    assert loaded.stdout.strip() == "[]", loaded.stderr


def test_importing_the_package_loads_what_it_names_only_when_that_is_used() -> None:
    heavy = ("pydantic", "asyncpg", "asyncio", "eventstore.store")
    loaded = python(f"import sys, eventstore; print([name for name in {heavy!r} if name in sys.modules])")
    used = python("import eventstore; from eventstore import *; print(EventStore is eventstore.store.EventStore)")

    assert loaded.stdout.strip() == "[]", loaded.stderr
    assert used.stdout.strip() == "True", used.stderr


def test_a_type_checker_is_told_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(inspect.getsource(eventstore))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    told = {alias.name: node.module for node in imports for alias in node.names}

    assert told == eventstore._HOME_OF
    assert {*told, "Metadata", "current_metadata", "metadata"} == set(eventstore.__all__)
    assert set(eventstore.__all__) <= set(dir(eventstore))


def test_a_name_that_a_module_has_too_is_the_name_whatever_was_imported_before() -> None:
    code = "import eventstore.events, eventstore.metadata, eventstore; print(callable(eventstore.metadata))"

    assert python(code).stdout.strip() == "True"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Aggregat"):
        _ = eventstore.Aggregat  # type: ignore[attr-defined]


def test_running_workers_on_the_log_does_not_load_kafka() -> None:
    code = """
import sys
import eventstore.cli.app
from eventstore import Application, EventTypes, Projection, Publisher
from eventstore.runtime.workers import Workers
from eventstore.testing import memory_store
app = Application("shop", events=EventTypes(), publishers=[Publisher("orders", categories=["order"])],
                  projections=[Projection("sales", tables=["sales"], categories=["order"])])
def loaded(): return any(name.split(".")[0] == "aiokafka" for name in sys.modules)
Workers(app, memory_store(app), ["sales"])
print(loaded())
Workers(app, memory_store(app), ["sales"], kafka="broker:9092")
print(loaded())
"""
    done = python(code)

    assert done.stdout.split() == ["False", "True"], done.stderr


def test_importing_an_application_needs_no_environment_and_no_loop() -> None:
    code = "import os; os.environ.clear(); import eventstore, eventstore.web, eventstore.testing; print('fine')"

    assert python(code).stdout.strip() == "fine"


def test_a_type_checker_finds_the_types() -> None:
    assert (ROOT / "eventstore" / "py.typed").exists()


# --- nothing shows a payload -----------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> EventStore:
    """An empty store in memory."""
    return memory_store(app)


async def test_no_event_shows_its_payload(memory: EventStore) -> None:
    new = NewEvent(NoteTaken(text=SECRET))
    result = await memory.append("note-1", [new], expected_version=NO_STREAM)
    (recorded,) = await memory.read_stream("note-1").to_list()
    (raw,) = await memory.read_stream("note-1", of=RawEvent).to_list()
    page = await memory.log.read_all(LogRange(), 0, await memory.log.high_water(), 10)

    assert SECRET in recorded.data.model_dump_json()
    assert SECRET in page.events[0].data
    for shown in (new, result, recorded, raw, raw.data, page.events[0], page, memory):
        assert SECRET not in f"{shown} {shown!r}"


HOLDING = {"data", "state", "extra", "before", "after"}
"""What a field is called that holds a payload, or a part of one."""


HOLDING_NO_PAYLOAD = {"CsvMapping", "FollowerHealth", "Holder", "Report"}
"""Classes whose fields are called so for another reason: columns of a file, and what a follower is doing."""


def holders() -> dict[str, type[Any]]:
    """Return the package's classes that can hold a payload and are shown by their fields."""
    modules = [each.name for each in pkgutil.walk_packages(eventstore.__path__, "eventstore.")]
    classes = {
        kind
        for module in modules
        if not module.endswith("__main__")
        for _, kind in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if kind.__module__.startswith("eventstore.") and HOLDING & set(fields_of(kind))
    }
    return {kind.__name__: kind for kind in classes}


def fields_of(kind: type[Any]) -> Sequence[str]:
    if is_dataclass(kind):
        return [each.name for each in fields(kind)]
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return getattr(kind, "_fields", ()) if issubclass(kind, tuple) else ()


def filled(kind: type[Any]) -> Any:
    """Return an instance that holds the secret wherever a payload goes; nothing checks it."""
    values: dict[str, Any] = {name: SECRET if name in HOLDING else None for name in fields_of(kind)}
    if issubclass(kind, BaseModel):
        return kind.model_construct(**values)
    if issubclass(kind, tuple):
        return tuple.__new__(kind, values.values())
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def test_no_class_that_can_hold_a_payload_shows_it() -> None:
    found = holders()

    assert {
        *("EncodedEvent", "EventToFold", "Folded", "ImportedEvent", "Interpreted", "JsonEvent", "Metadata", "NewEvent"),
        *("RawEvent", "RecordedEvent", "StoredEvent", "StoredPayload", "StoredSnapshot", "Upcast", "Change"),
    } <= found.keys()
    assert {name for name, kind in found.items() if SECRET in repr(filled(kind))} <= HOLDING_NO_PAYLOAD


class Strict(BaseModel):
    """An event that does not take what the note has."""

    text: int


async def test_no_error_shows_the_payload_that_it_is_about(memory: EventStore) -> None:
    raised: list[EventStoreError] = []
    for bad in (NoteTaken(text=f"{SECRET}\0"), NoteTaken(text=f"{SECRET}\ud800"), NoteTaken(text=SECRET * 100_000)):
        with pytest.raises(UnstorablePayloadError) as refusal:
            await memory.append("note-1", [bad], expected_version=NO_STREAM)
        raised.append(refusal.value)
    await memory.append("note-1", [NoteTaken(text=SECRET)], expected_version=NO_STREAM)

    narrower, none = EventTypes(), EventTypes()
    narrower.register("NoteTaken")(Strict)
    page = await memory.log.read_all(LogRange(), 0, await memory.log.high_water(), 10)
    for types in (narrower, none):
        codec = Codec(types, clock=system_clock, new_id=uuid7, max_payload=1000)
        with pytest.raises(EventStoreError) as refusal_to_read:
            list(codec.decode(page.events[0], Selection(None, raw=False)))
        raised.append(refusal_to_read.value)

    for error in raised:
        assert SECRET not in f"{error} {error!r} {vars(error)}"
        assert error.__cause__ is None or error.__suppress_context__
