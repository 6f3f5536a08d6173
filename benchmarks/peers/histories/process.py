"""Plays one library, in its own environment, and writes the history to stdout.

python -m benchmarks.peers.histories.process MODULE VARIANT DSN SEED APPENDS
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys

from benchmarks.peers.histories.playing import play


def main() -> None:
    """Play the library that the command line names."""
    module, variant, dsn, seed, appends = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints goes to stderr
    subject = importlib.import_module(f"benchmarks.peers.histories.{module}").SUBJECTS[variant](dsn)
    json.dump(asyncio.run(play(subject, int(seed), int(appends))), answers)
    answers.close()


if __name__ == "__main__":
    main()
