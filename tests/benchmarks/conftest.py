from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import server
from eventstore.devserver import DevServerError
from fixtures.postgres import REQUIRED
from fixtures.run import unavailable


@pytest.fixture(scope="module")
def durable_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the settings of the benchmarks, on the disk."""
    try:
        running = server.start(tmp_path_factory.mktemp("bench"))
    except DevServerError as error:
        unavailable(REQUIRED, error)
    yield running.dsn
    running.remove()
