"""The command line with and without a database, and as a process."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.cli_kit import HERE, EventstoreCommand, Process, Sql, StartProcess, StoreRaw, run_sql
from fixtures.raw_append import ONE_EVENT


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with the shop as the application, without a database."""
    for name in list(os.environ):
        if name.startswith("EVENTSTORE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("EVENTSTORE_APP", "cli_shop:app")
    monkeypatch.setenv("NO_COLOR", "1")
    return monkeypatch


@pytest.fixture
def bare(settings: pytest.MonkeyPatch) -> EventstoreCommand:  # noqa: ARG001 - the environment it runs in
    """The command without a database."""
    return EventstoreCommand()


@pytest.fixture
def es(settings: pytest.MonkeyPatch, dsn: str) -> EventstoreCommand:
    """The command with a migrated, empty database."""
    settings.setenv("EVENTSTORE_DSN", dsn)
    return EventstoreCommand()


@pytest.fixture
def placed(es: EventstoreCommand) -> EventstoreCommand:
    """The command with two orders: order-1 of three events, order-2 of one."""
    events = [
        {"type": "OrderPlaced", "data": {"sku": "tea", "quantity": 2}, "occurred_at": "2024-05-01T10:00:00Z"},
        {"type": "OrderPlaced", "data": {"sku": "cup", "quantity": 1}, "occurred_at": "2024-05-02T10:00:00Z"},
        {"type": "OrderShipped", "data": {"carrier": "dhl"}, "occurred_at": "2024-05-03T10:00:00Z"},
    ]
    es.ok("append", "order-1", "--expected-version", "none", stdin=json.dumps(events))
    es.ok("append", "order-2", "--expected-version", "none", stdin=json.dumps(events[0]))
    return es


@pytest.fixture
def sql(dsn: str) -> Sql:
    """Run a statement in the test's database."""

    def run(statement: str, *args: Any) -> list[Any]:
        return run_sql(dsn, statement, *args)

    return run


@pytest.fixture
def store_raw(sql: Sql) -> StoreRaw:
    """Append an event as other code than this would have stored it."""

    def append(stream: str, *, after: int, event_type: str, schema_version: int, data: str) -> None:
        [(outcome, _, _)] = sql(ONE_EVENT, stream, after, event_type, schema_version, data)
        assert outcome == "appended"

    return append


@pytest.fixture
def start() -> Iterator[StartProcess]:
    """Start `eventstore` as a process that is gone after the test."""
    started: list[Process] = []

    def begin(*args: str) -> Process:
        started.append(Process(args))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a worker's command does to logging: in a process of its own nobody comes after it."""
    handlers, level = list(logging.root.handlers), logging.root.level
    levels = {name: logging.getLogger(name).level for name in list(logging.root.manager.loggerDict)}
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
