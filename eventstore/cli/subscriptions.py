"""Moving and forgetting the checkpoints of subscriptions: `reset` and `forget`."""

from typing import Annotated, Final

import typer

from eventstore.cli.errors import NotFoundError
from eventstore.cli.options import Cli, cli_of, parse_time
from eventstore.cli.running import run
from eventstore.cli.status import declared_followers
from eventstore.events import BEGINNING, Position
from eventstore.store import EventStore
from eventstore.subscriptions import END, Checkpoints, delete_subscription, recorded_from, reset_subscription
from eventstore.subscriptions.reader import subscription_checkpoint
from eventstore.subscriptions.starting import Start

_NAMED: Final[dict[str, Start]] = {"beginning": BEGINNING, "end": END}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The subscription.")]


def reset(
    ctx: typer.Context,
    name: Name,
    *,
    to: Annotated[
        str | None, typer.Option(metavar="PLACE", help="`beginning`, `end`, or a position: it goes on after it.")
    ] = None,
    recorded: Annotated[
        str | None, typer.Option("--recorded-from", metavar="TIME", help="The first event recorded then or later.")
    ] = None,
) -> None:
    """Let a subscription go on from another place, whether it runs or not: a reader begins again there by itself."""
    if (to is None) == (recorded is None):
        raise typer.BadParameter("say where to: --to beginning, end or a position, or --recorded-from a time")
    start = _NAMED.get(to) or Position.parse(to) if to is not None else recorded_from(parse_time(recorded or ""))
    cli = cli_of(ctx)
    position = run(_reset(cli, name, start))
    if cli.as_json:
        cli.output.document({"subscription": name, "position": position})
    else:
        cli.output.text((name, "bold"), f": goes on after position {position}")


async def _reset(cli: Cli, name: str, start: Start) -> Position:
    async with cli.store() as store:
        if subscription_checkpoint(name) not in declared_followers(cli):
            await _require_checkpoint(store, name)
        return await reset_subscription(store, name, to=start)


def forget(ctx: typer.Context, name: Name) -> None:
    """Forget how far a subscription has come, so that its name begins at its start again. Stop its readers first."""
    cli = cli_of(ctx)
    run(_forget(cli, name))
    if cli.as_json:
        cli.output.document({"subscription": name})
    else:
        cli.output.text((name, "bold"), ": forgotten")


async def _forget(cli: Cli, name: str) -> None:
    async with cli.store() as store:
        await _require_checkpoint(store, name)
        await delete_subscription(store, name)


async def _require_checkpoint(store: EventStore, name: str) -> None:
    known = {kept for kept, _, _ in await Checkpoints(store.database).list()}
    if subscription_checkpoint(name) not in known:
        raise NotFoundError(name, "has no checkpoint: `eventstore status` lists those that have one")
