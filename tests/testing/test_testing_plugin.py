"""The pytest plugin in a project of its own: in memory by default, in PostgreSQL on request, and light to load."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from eventstore.testing.databases import DatabasesForTests

ROOT = Path(__file__).parents[2]

SHOP = """
from pydantic import BaseModel
from eventstore import Application, EventTypes

events = EventTypes()

@events.register("OrderPlaced")
class OrderPlaced(BaseModel):
    sku: str

app = Application("shop", events=events)
"""

TESTS = """
from eventstore import NO_STREAM, EventStore
from shop import OrderPlaced

async def test_append(eventstore: EventStore, eventstore_clock):
    result = await eventstore.append("order-1", [OrderPlaced(sku="tea")], expected_version=NO_STREAM)
    assert result.stream_version == 1
    assert result.event_ids[0].int & 0xFF == 1
    (event,) = await eventstore.read_stream("order-1").to_list()
    assert event.occurred_at == eventstore_clock()

async def test_each_test_begins_with_an_empty_store(eventstore: EventStore):
    assert await eventstore.read_all().to_list() == []
    print("kind:", eventstore)
"""


CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def eventstore_app():
    import shop
    return shop.app
"""


def settings(mode: str, app: str = "") -> str:
    """Return pytest's settings of the project."""
    return f"""[pytest]
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
eventstore_app = {app}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project that uses the plugin."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(settings("auto", "shop:app"))
    return tmp_path


def run(project: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in the project."""
    installed = any(found.value == "eventstore.testing.plugin" for found in entry_points(group="pytest11"))
    plugin = [*([] if installed else ["-p", "eventstore.testing.plugin"]), "-p", "no:cacheprovider"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTSTORE_", "PYTEST_"))}
    return subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-m", "pytest", *plugin, "-W", "error", "-s", *options],
        cwd=project,
        env={**settings, "PYTHONPATH": os.pathsep.join([str(ROOT), str(project)]), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_store_is_in_memory_unless_it_is_said_otherwise(project: Path) -> None:
    done = run(project)

    assert "2 passed" in done.stdout, done.stdout
    assert "kind: EventStore(in memory)" in done.stdout


def test_the_same_tests_run_on_postgresql(project: Path, postgres_server: DatabasesForTests) -> None:
    before = postgres_server.ask("SELECT count(*) FROM pg_database WHERE datname LIKE 'eventstore\\_%'")
    done = run(project, "--eventstore=postgres", EVENTSTORE_DSN=postgres_server.dsn_of("postgres"))

    assert "2 passed" in done.stdout, done.stdout
    assert "kind: EventStore(Database(schema='eventstore'))" in done.stdout
    assert postgres_server.ask("SELECT count(*) FROM pg_database WHERE datname LIKE 'eventstore\\_%'") <= before + 2


def test_it_works_where_asynchronous_fixtures_must_be_marked(project: Path, postgres_server: DatabasesForTests) -> None:
    (project / "pytest.ini").write_text(settings("strict", "shop:app"))
    (project / "test_shop.py").write_text("import pytest\npytestmark = pytest.mark.asyncio\n" + TESTS)

    for options in ([], ["--eventstore=postgres"]):
        done = run(project, *options, EVENTSTORE_DSN=postgres_server.dsn_of("postgres"))
        assert "2 passed" in done.stdout, done.stdout


def test_the_application_can_come_from_a_fixture(project: Path) -> None:
    (project / "pytest.ini").write_text(settings("auto"))
    (project / "conftest.py").write_text(CONFTEST)

    assert "2 passed" in run(project).stdout


def test_the_application_can_come_from_the_projects_settings(project: Path) -> None:
    (project / "pytest.ini").write_text(settings("auto"))
    (project / "pyproject.toml").write_text('[tool.eventstore]\napp = "shop:app"\n')

    assert "2 passed" in run(project).stdout


def test_without_an_application_it_says_what_to_do(project: Path) -> None:
    (project / "pytest.ini").write_text(settings("auto"))

    done = run(project)

    assert done.returncode != 0
    assert "eventstore_app = 'module:object'" in done.stdout + done.stderr


def test_a_run_that_does_not_use_it_loads_nothing_heavy(project: Path) -> None:
    (project / "test_shop.py").write_text(
        "import sys\n\ndef test_nothing():\n    print('loaded:', [name for name in"
        " ('alembic', 'sqlalchemy', 'aiokafka', 'typer', 'eventstore.devserver')"
        " if name in sys.modules])\n"
    )

    done = run(project)

    assert "loaded: []" in done.stdout, done.stdout
