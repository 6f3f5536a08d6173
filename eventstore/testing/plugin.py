"""The pytest plugin: `async def test_it(eventstore: EventStore)`, in memory or, with --eventstore=postgres, not.

Tell it your application once, in pytest's settings (`eventstore_app = "shop:app"`) or by a fixture of that name.
Everything else is loaded when a test asks for it.
"""
# ruff: noqa: PLC0415 - pytest loads this module in every project where the framework is installed

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from eventstore import Application, EventStore
    from eventstore.clock import IdGenerator
    from eventstore.testing import FakeClock
    from eventstore.testing.databases import DatabasesForTests

F = TypeVar("F", bound="Callable[..., Any]")


def _async_fixture(function: F) -> F:
    """Declare an asynchronous fixture for pytest-asyncio in any of its modes, or else for whatever plugin is there."""
    try:
        plugin: Any = importlib.import_module("pytest_asyncio")
    except ImportError:
        plugin = pytest
    return cast("F", plugin.fixture(function))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the store, and the setting that names the application."""
    parser.getgroup("eventstore").addoption(
        "--eventstore",
        choices=("memory", "postgres"),
        default="memory",
        help="what the fixture `eventstore` is: in memory, or PostgreSQL (EVENTSTORE_DSN, or an embedded server)",
    )
    parser.addini("eventstore_app", "the application of the fixture `eventstore`, as module:object")


@pytest.fixture(scope="session")
def eventstore_app(pytestconfig: pytest.Config) -> Application:
    """The application under test: the setting `eventstore_app`, or what the command line tools use. Override it."""
    from pkgutil import resolve_name

    from eventstore.config import load_settings

    name = pytestconfig.getini("eventstore_app") or load_settings().app
    if not name:
        raise pytest.UsageError(
            "the fixture `eventstore` needs an application: set eventstore_app = 'module:object' in pytest's settings, "
            "or define a fixture `eventstore_app` that returns it"
        )
    app: Application = resolve_name(name)
    return app


@pytest.fixture
def eventstore_clock() -> FakeClock:
    """The clock of the fixture `eventstore`: it begins at 2024-01-01 and stands still until `advance` is called."""
    from eventstore.testing.time_and_ids import FakeClock

    return FakeClock()


@pytest.fixture
def eventstore_ids() -> IdGenerator:
    """What gives ids in the fixture `eventstore`: they count from 1."""
    from eventstore.testing.time_and_ids import sequential_ids

    return sequential_ids()


@pytest.fixture
def eventstore(request: pytest.FixtureRequest) -> Iterator[EventStore]:
    """An empty store of the application: in memory, or PostgreSQL with --eventstore=postgres."""
    if request.config.getoption("--eventstore") == "postgres":
        yield request.getfixturevalue("eventstore_postgres")
        return
    store: EventStore = request.getfixturevalue("eventstore_memory")
    yield store
    store.close()


@pytest.fixture
def eventstore_memory(
    eventstore_app: Application, eventstore_clock: FakeClock, eventstore_ids: IdGenerator
) -> EventStore:
    """An empty store of the application in memory."""
    from eventstore.testing.memory import memory_store

    return memory_store(eventstore_app, clock=eventstore_clock, new_id=eventstore_ids)


@_async_fixture
async def eventstore_postgres(
    eventstore_app: Application, eventstore_clock: FakeClock, eventstore_ids: IdGenerator, eventstore_dsn: str
) -> AsyncIterator[EventStore]:
    """An empty store of the application in PostgreSQL, in a database of its own."""
    from eventstore.store import EventStore

    async with EventStore.open(eventstore_dsn, eventstore_app, clock=eventstore_clock, new_id=eventstore_ids) as store:
        yield store


@pytest.fixture(scope="session")
def eventstore_admin_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the fixture `eventstore_dsn`: EVENTSTORE_DSN (its user needs CREATEDB), or an embedded one."""
    from eventstore.config import load_settings

    dsn = load_settings().dsn
    if dsn:
        yield dsn
        return
    from eventstore.db.durability import CHECK_OFF
    from eventstore.devserver import start_postgres

    server = start_postgres(tmp_path_factory.mktemp("eventstore") / "postgres", settings={"fsync": "off", **CHECK_OFF})
    yield server.dsn
    server.remove()


@pytest.fixture(scope="session")
def eventstore_databases(eventstore_admin_dsn: str) -> Iterator[DatabasesForTests]:
    """What makes databases on that server; a migrated template of this test run is dropped at the end."""
    from uuid import uuid4

    from eventstore.testing.databases import DatabasesForTests

    databases = DatabasesForTests(eventstore_admin_dsn, f"eventstore_{uuid4().hex[:8]}")
    databases.make_template()
    yield databases
    databases.drop_template()


@pytest.fixture
def eventstore_dsn(eventstore_databases: DatabasesForTests) -> Iterator[str]:
    """The address of a fresh, migrated database that is this test's alone."""
    dsn = eventstore_databases.create()
    yield dsn
    eventstore_databases.drop(dsn)
