"""The read models: one row for each application, and the bank's work by day. Both change in the same transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventstore import Projection, ProjectionContext, StreamId
from examples.loans import events as e
from examples.loans.figures import Figures

if TYPE_CHECKING:
    import asyncpg

    from eventstore import RecordedEvent

loans = Projection(
    "loans",
    version=1,
    categories=["application"],
    setup="""
        CREATE TABLE applications (
            application      text PRIMARY KEY,
            amount_requested bigint NOT NULL,
            outcome          text NOT NULL DEFAULT 'undecided',
            submitted_at     timestamptz NOT NULL,
            decided_at       timestamptz,
            last_event_at    timestamptz NOT NULL,
            events           integer NOT NULL DEFAULT 1,
            offers           integer NOT NULL DEFAULT 0
        ) WITH (fillfactor = 50);  -- room beside each row, so that its many updates stay on its page and off the index

        CREATE TABLE work_by_day (
            day       date NOT NULL,
            item      text NOT NULL,
            scheduled integer NOT NULL DEFAULT 0,
            started   integer NOT NULL DEFAULT 0,
            completed integer NOT NULL DEFAULT 0,
            closed    integer NOT NULL DEFAULT 0,
            PRIMARY KEY (day, item)
        ) WITH (fillfactor = 10);
    """,
)

BANK_TIME: Final = "Europe/Amsterdam"
"""A day of work begins and ends at the bank, not in UTC."""

OUTCOMES: Final[dict[type[e.Event], str]] = {
    e.ApplicationApproved: "approved",
    e.ApplicationDeclined: "declined",
    e.ApplicationCancelled: "cancelled",
}

WORK_COLUMNS: Final[dict[type[e.Event], str]] = {
    e.WorkItemScheduled: "scheduled",
    e.WorkItemStarted: "started",
    e.WorkItemCompleted: "completed",
    e.WorkItemClosed: "closed",
}


@loans.on(e.ApplicationSubmitted)
async def begin(event: RecordedEvent[e.ApplicationSubmitted], ctx: ProjectionContext) -> None:
    """Add a row for a new application."""
    await ctx.connection.execute(
        "INSERT INTO applications (application, amount_requested, submitted_at, last_event_at) VALUES ($1, $2, $3, $3)",
        application_of(event),
        event.data.amount_requested,
        event.occurred_at,
    )


@loans.on(*OUTCOMES)
async def decide(
    event: RecordedEvent[e.ApplicationApproved | e.ApplicationDeclined | e.ApplicationCancelled], ctx: ProjectionContext
) -> None:
    """Note the outcome. Registered and activated do not decide: approved does, whichever comes first."""
    await ctx.connection.execute(
        "UPDATE applications SET events = events + 1, last_event_at = $2, decided_at = $2, outcome = $3"
        " WHERE application = $1",
        application_of(event),
        event.occurred_at,
        OUTCOMES[type(event.data)],
    )


@loans.on(e.OfferSelected)
async def count_offer(event: RecordedEvent[e.OfferSelected], ctx: ProjectionContext) -> None:
    """Count the application's offers."""
    await ctx.connection.execute(
        "UPDATE applications SET events = events + 1, last_event_at = $2, offers = $3 WHERE application = $1",
        application_of(event),
        event.occurred_at,
        event.data.offer,
    )


@loans.on(*WORK_COLUMNS)
async def count_work(event: RecordedEvent[e.WorkChange], ctx: ProjectionContext) -> None:
    """Count a day's work, and the event with its application: two tables in one statement, half the round trips."""
    await ctx.connection.execute(
        COUNT_WORK[WORK_COLUMNS[type(event.data)]], application_of(event), event.occurred_at, event.data.item.value
    )


COUNT_WORK: Final = {
    column: f"""
        WITH counted AS (
            UPDATE applications SET events = events + 1, last_event_at = $2 WHERE application = $1
        )
        INSERT INTO work_by_day AS work (day, item, {column})
        VALUES (($2::timestamptz AT TIME ZONE '{BANK_TIME}')::date, $3, 1)
        ON CONFLICT (day, item) DO UPDATE SET {column} = work.{column} + 1
    """  # noqa: S608 - the columns are the four above
    for column in WORK_COLUMNS.values()
}


@loans.on(
    e.ApplicationPartlySubmitted,
    e.ApplicationPreaccepted,
    e.ApplicationAccepted,
    e.ApplicationFinalized,
    e.ApplicationRegistered,
    e.ApplicationActivated,
    e.OfferCreated,
    e.OfferSent,
    e.OfferSentBack,
    e.OfferAccepted,
    e.OfferCancelled,
    e.OfferDeclined,
)
async def count_event(event: RecordedEvent[e.LoanEvent], ctx: ProjectionContext) -> None:
    """Count everything else with its application."""
    await ctx.connection.execute(
        "UPDATE applications SET events = events + 1, last_event_at = $2 WHERE application = $1",
        application_of(event),
        event.occurred_at,
    )


def application_of(event: RecordedEvent[e.LoanEvent]) -> str:
    """Return the number of the application that an event belongs to."""
    return StreamId.parse(event.stream_id).key


async def read_figures(connection: asyncpg.Connection) -> Figures:
    """Return the figures of the read models, as any reader would ask for them."""
    applications = await connection.fetchrow(f"""
        SELECT count(*) AS applications,
               count(*) FILTER (WHERE outcome = 'approved') AS approved,
               count(*) FILTER (WHERE outcome = 'declined') AS declined,
               count(*) FILTER (WHERE outcome = 'cancelled') AS cancelled,
               count(*) FILTER (WHERE outcome = 'undecided') AS undecided,
               coalesce(sum(events), 0) AS events,
               coalesce(sum(offers), 0) AS offers,
               coalesce(sum(amount_requested), 0)::bigint AS euros_requested
          FROM {loans.schema}.applications""")  # noqa: S608 - the projection's own schema
    work = await connection.fetchrow(f"""
        SELECT coalesce(sum(started), 0) AS work_started,
               coalesce(sum(completed), 0) AS work_completed,
               coalesce(sum(closed), 0) AS work_closed,
               coalesce((SELECT sum(started) FROM {loans.schema}.work_by_day
                          GROUP BY day ORDER BY 1 DESC LIMIT 1), 0) AS busiest_day
          FROM {loans.schema}.work_by_day""")  # noqa: S608 - the projection's own schema
    return Figures(**applications, **work)
