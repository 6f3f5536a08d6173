"""Loan applications at a bank, event-sourced: a real log of 262,200 events, replayed as commands.

Read it in this order:

    events.py        the facts, as typed events
    state.py         what an application is after its events
    application.py   the rules: which command is possible when (and what real rows taught us about them)
    read_models.py   two tables for readers, built from the events
    rows.py          the log's rows as commands

and this file, which ties them together into `app`, the value that the service, the CLI and the workers are given.

`python -m examples.loans` runs it all on the log: `demo.py` has the servers and the database made and `pipeline.py` the
workers run, `commands.py` gives the rows to their applications, and `folding.py` counts the same figures without any
of it, to compare.
"""

from eventstore import Application, Publisher, every
from examples.loans.application import LoanApplication
from examples.loans.events import event_types
from examples.loans.read_models import loans

SNAPSHOT_EVERY = 10
"""An application has 20 events on average, and 175 at the most."""


def make_app(*, topic_prefix: str = "") -> Application:
    """Return the application; with a prefix, its topics stand beside those of another one on the same brokers."""
    return Application(
        "loans",
        events=event_types,
        aggregates=[LoanApplication],
        projections=[loans],
        publishers=[Publisher("applications", categories=["application"], topic_prefix=topic_prefix)],
        snapshots={LoanApplication: every(SNAPSHOT_EVERY)},
    )


app = make_app()
