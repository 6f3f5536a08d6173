"""Stop and delete all embedded servers below a directory: `python -m eventstore.devserver.removal DIRECTORY`.

For `make clean`, and for whoever wants to begin anew after a crash left servers behind.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

from eventstore.devserver.errors import DevServerError
from eventstore.devserver.state import STATE_FILE, locked, read_state

# PostgreSQL's fast shutdown, and Kafka's orderly one; then PostgreSQL's immediate one, which Java does not mind.
STOP = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
LOCK_SECONDS = 60.0


def remove_servers(directory: Path) -> None:
    """Stop every server whose data directory is below, delete its files wherever they are, then the directory itself.

    Raises DevServerError when one cannot be stopped; then nothing of it is deleted.
    """
    for state_file in sorted(directory.rglob(STATE_FILE)):
        data_dir = state_file.parent
        with locked(data_dir, seconds=LOCK_SECONDS):
            state = read_state(data_dir)
            if state is None:
                continue
            if not state.process.end(STOP):
                raise DevServerError(f"pid {state.pid}, the server of {data_dir}, does not end: end it by hand")
            shutil.rmtree(state.home, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        remove_servers(Path(argument).absolute())
