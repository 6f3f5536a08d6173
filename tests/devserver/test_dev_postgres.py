"""What a development PostgreSQL promises to whoever starts it, and to whoever comes after a crash."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eventstore.devserver import DevServerError, postgres_binaries, start_postgres
from eventstore.devserver.accounts import reachable_binaries, server_account
from eventstore.devserver.ports import EPHEMERAL_FROM
from eventstore.devserver.postgres_probe import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from fixtures.other_python import OtherPython

QUICK = {"fsync": "off"}  # for tests that lose no power
pytestmark = pytest.mark.usefixtures("postgres_programs")

START_AND_HOLD = """
import sys
from pathlib import Path
from eventstore.devserver import start_postgres
server = start_postgres(Path(sys.argv[1]), settings={"fsync": "off"})
print(server.pid, server.port, flush=True)
sys.stdin.read()
"""
START_WITH = """
import sys
from pathlib import Path
from eventstore.devserver import start_postgres
start_postgres(Path(sys.argv[1]), binaries=Path(sys.argv[2]))
"""


def test_it_answers_as_superuser_over_loopback(data_dir: Path) -> None:
    with start_postgres(data_dir, settings=QUICK) as server:
        assert server.is_running()
        assert server.dsn == f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
        assert ask(server.port, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", timeout=5) == "t"
        assert ask(server.port, "SHOW server_version", timeout=5).startswith(server.version)
        assert ask(server.port, "SHOW server_encoding", timeout=5) == "UTF8"
    assert not server.is_running()


def test_it_is_durable_unless_told_otherwise(data_dir: Path) -> None:
    with start_postgres(data_dir) as server:
        assert ask(server.port, "SHOW fsync", timeout=5) == "on"
    with start_postgres(data_dir, settings=QUICK) as server:
        assert ask(server.port, "SHOW fsync", timeout=5) == "off"


def test_postgres_15_starts_as_well(data_dir: Path) -> None:
    try:
        programs = postgres_binaries(15)
    except DevServerError as error:
        if os.environ.get("EVENTSTORE_REQUIRE_POSTGRES") == "1":
            raise
        pytest.skip(str(error))
    with start_postgres(data_dir, settings=QUICK, binaries=programs) as server:
        assert ask(server.port, "SHOW server_version_num", timeout=5).startswith("15")


def test_data_and_port_survive_a_stop(data_dir: Path, own_port: int) -> None:
    with start_postgres(data_dir, settings=QUICK, port=own_port) as server:
        ask(server.port, "CREATE TABLE kept AS SELECT 42 AS answer; SELECT 1", timeout=5)
    with start_postgres(data_dir, settings=QUICK) as again:
        assert ask(again.port, "SELECT answer FROM kept", timeout=5) == "42"
        assert again.port == own_port


def test_after_a_kill_of_its_starter_the_same_server_is_found_again(
    data_dir: Path, other_python: Callable[..., OtherPython]
) -> None:
    starter = other_python(START_AND_HOLD, data_dir)
    pid, port = map(int, starter.line().split())
    starter.kill()
    with start_postgres(data_dir, settings=QUICK) as found:
        assert (found.pid, found.port) == (pid, port)
    assert not found.is_running()


def test_an_orderly_end_of_its_starter_stops_it(data_dir: Path, other_python: Callable[..., OtherPython]) -> None:
    starter = other_python(START_AND_HOLD, data_dir)
    pid = int(starter.line().split()[0])
    starter.finish()
    assert not Path(f"/proc/{pid}").exists()


def test_who_ends_first_leaves_it_to_the_other(data_dir: Path, other_python: Callable[..., OtherPython]) -> None:
    other = other_python(START_AND_HOLD, data_dir)
    pid = int(other.line().split()[0])
    with start_postgres(data_dir, settings=QUICK) as shared:
        assert shared.pid == pid
    assert shared.is_running(), "stopped under the one that still uses it"
    other.finish()
    assert not shared.is_running()


def test_who_was_killed_does_not_count_among_those_who_share_it(
    data_dir: Path, other_python: Callable[..., OtherPython]
) -> None:
    other = other_python(START_AND_HOLD, data_dir)
    other.line()
    with start_postgres(data_dir, settings=QUICK) as shared:
        other.kill()
    assert not shared.is_running()


def test_a_forked_child_neither_stops_it_nor_keeps_it_running(data_dir: Path) -> None:
    may_end, end = os.pipe()
    with start_postgres(data_dir, settings=QUICK) as one, start_postgres(data_dir, settings=QUICK) as other:
        child = os.fork()
        if child == 0:
            one.__exit__(None, None, None)
            os.close(end)
            os.read(may_end, 1)
            os._exit(0)
        one.__exit__(None, None, None)
        assert other.is_running()
    assert not other.is_running(), "kept by a child that only has its parent's handles"
    os.close(end)
    assert os.waitpid(child, 0)[1] == 0


def test_stop_means_all_who_share_it(data_dir: Path) -> None:
    with start_postgres(data_dir, settings=QUICK) as one, start_postgres(data_dir, settings=QUICK) as other:
        assert one.pid == other.pid
        one.stop()
        assert not other.is_running()


def test_who_used_a_server_that_is_gone_does_not_keep_the_next_one_running(data_dir: Path) -> None:
    with start_postgres(data_dir, settings=QUICK) as gone:
        gone.kill()
        with start_postgres(data_dir, settings=QUICK) as again:
            assert again.pid != gone.pid
        assert not again.is_running()


def test_another_setting_starts_it_anew(data_dir: Path) -> None:
    with start_postgres(data_dir, settings=QUICK) as first:
        with start_postgres(data_dir, settings={**QUICK, "max_connections": "17"}) as second:
            assert second.pid != first.pid
            assert ask(second.port, "SHOW max_connections", timeout=5) == "17"
        assert not first.is_running()


def test_after_a_kill_of_the_server_it_recovers_with_its_data(data_dir: Path) -> None:
    server = start_postgres(data_dir)
    ask(server.port, "CREATE TABLE kept AS SELECT 42 AS answer; SELECT 1", timeout=5)
    server.kill()
    assert not server.is_running()
    with start_postgres(data_dir) as again:
        assert again.pid != server.pid
        assert ask(again.port, "SELECT answer FROM kept", timeout=5) == "42"


def test_a_pid_that_belongs_to_another_program_now_is_not_taken_for_the_server(data_dir: Path) -> None:
    server = start_postgres(data_dir, settings=QUICK)
    server.kill()
    state_file = data_dir / "server.json"
    state = json.loads(state_file.read_text())
    state_file.write_text(json.dumps(state | {"pid": os.getpid()}))
    pid_file = Path(state["home"]) / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(server.pid), str(os.getpid()), 1))
    with start_postgres(data_dir, settings=QUICK) as again:
        assert again.pid != os.getpid()


@pytest.mark.parametrize("damaged", ["", "{", '{"pid": "x"}', "[]"])
def test_a_damaged_state_file_is_no_obstacle(data_dir: Path, damaged: str) -> None:
    server = start_postgres(data_dir, settings=QUICK, keep_running=True)
    home = json.loads((data_dir / "server.json").read_text())["home"]
    (data_dir / "server.json").write_text(damaged)
    with start_postgres(data_dir, settings=QUICK) as again:
        assert not server.is_running(), "two servers on one database"
        assert ask(again.port, "SHOW data_directory", timeout=5) == home


def test_a_database_whose_making_was_cut_short_is_made_anew(
    open_dir: Path, postgres_programs: Path, other_python: Callable[..., OtherPython]
) -> None:
    began = open_dir / "began"
    os.mkfifo(began)
    began.chmod(0o666)
    listening = os.open(began, os.O_RDONLY | os.O_NONBLOCK)
    programs = open_dir / "bin"
    programs.mkdir()
    programs.chmod(0o755)
    (programs / "postgres").symlink_to(reachable_binaries(server_account(), postgres_programs) / "postgres")
    (programs / "initdb").write_text(
        f'#!/bin/sh\n[ "$1" = -D ] || exit 0\necho 18 > "$2/PG_VERSION"; echo $$ > {began}; exec sleep 600\n'
    )
    (programs / "initdb").chmod(0o755)
    starter = other_python(START_WITH, open_dir / "server", programs)
    assert select.select([listening], [], [], 60)[0]
    initdb = int(os.read(listening, 100))
    starter.kill()
    os.kill(initdb, signal.SIGKILL)
    os.close(listening)
    drafts = list((open_dir / "server").glob("pgdata.new-*/PG_VERSION"))
    assert len(drafts) == 1
    with start_postgres(open_dir / "server", settings=QUICK) as server:
        assert ask(server.port, "SELECT 1", timeout=5) == "1"
    assert not drafts[0].exists()


def test_a_port_that_is_taken_gives_way_to_one_below_the_ephemeral_range(data_dir: Path) -> None:
    with start_postgres(data_dir, settings=QUICK) as server:
        port = server.port
    with socket.create_server(("127.0.0.1", port)):
        with start_postgres(data_dir, settings=QUICK) as server:
            assert server.port != port
            assert 1024 < server.port < EPHEMERAL_FROM
        with pytest.raises(DevServerError, match=f"cannot listen on port {port}"):
            start_postgres(data_dir, settings=QUICK, port=port)


def test_two_starters_at_once_share_one_server(data_dir: Path, other_python: Callable[..., OtherPython]) -> None:
    one, other = other_python(START_AND_HOLD, data_dir), other_python(START_AND_HOLD, data_dir)
    assert one.line() == other.line() != ""


def test_servers_of_different_directories_do_not_meet(tmp_path: Path, data_dir: Path) -> None:
    with start_postgres(data_dir, settings=QUICK) as one, start_postgres(tmp_path / "b", settings=QUICK) as other:
        assert one.port != other.port
        assert one.pid != other.pid


def test_keep_running_leaves_it_to_the_next(data_dir: Path) -> None:
    with start_postgres(data_dir, settings=QUICK, keep_running=True) as server:
        pass
    assert server.is_running()
    with start_postgres(data_dir, settings=QUICK) as found:
        assert found.pid == server.pid


def test_an_error_quotes_the_end_of_the_log(data_dir: Path) -> None:
    with pytest.raises(DevServerError, match='"shared_buffers"'):
        start_postgres(data_dir, settings={"shared_buffers": "many"})


def test_a_database_of_another_major_version_is_refused_with_advice(data_dir: Path) -> None:
    start_postgres(data_dir, settings=QUICK).stop()
    home = Path(json.loads((data_dir / "server.json").read_text())["home"])
    (home / "PG_VERSION").write_text("13\n")
    with pytest.raises(DevServerError, match="was made by PostgreSQL 13"):
        start_postgres(data_dir, settings=QUICK)


def test_a_directory_of_somebody_else_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for unusable in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DevServerError, match="choose a directory"):
            start_postgres(unusable)


def test_remove_leaves_nothing_behind(data_dir: Path) -> None:
    server = start_postgres(data_dir, settings=QUICK)
    home = Path(json.loads((data_dir / "server.json").read_text())["home"])
    server.remove()
    assert not server.is_running()
    assert not home.exists()
    assert not data_dir.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root's server runs as another account; ours runs as we do")
def test_root_runs_it_as_somebody_else_and_changes_no_directory_of_others(data_dir: Path, open_dir: Path) -> None:
    modes = {parent: parent.stat().st_mode for parent in data_dir.parents}
    with start_postgres(data_dir, settings=QUICK) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        state = json.loads((data_dir / "server.json").read_text())
        assert state["home"].startswith("/var/tmp/")  # noqa: S108 - where it must be
        assert "cannot enter" in state["note"]
    with start_postgres(open_dir / "server", settings=QUICK):
        state = json.loads((open_dir / "server/server.json").read_text())
        assert state["home"] == str(open_dir / "server/pgdata")
    assert modes == {parent: parent.stat().st_mode for parent in data_dir.parents}
