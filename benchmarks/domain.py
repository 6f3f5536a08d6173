"""The bank of the benchmarks, declared as a user of the framework declares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from benchmarks.payload import fields
from eventstore import Aggregate, Application, EventTypes

events = EventTypes()


@events.register("Deposited")
class Deposited(BaseModel):
    """Money came in."""

    amount: int
    currency: str
    reference: str
    counterparty: str
    memo: str
    channel: str
    labels: list[str]


@dataclass(slots=True)
class Balance:
    """An account's state."""

    amount: int = 0
    deposits: int = 0


class Account(Aggregate[Balance, Deposited], category="account"):
    """An account, folded in place, as the accounts of the peers are."""

    @staticmethod
    def evolve(state: Balance, event: Deposited) -> Balance:
        """Return the state after a deposit."""
        state.amount += event.amount
        state.deposits += 1
        return state


app = Application("bank", events=events, aggregates=[Account])

DEPOSITS: Final = [Deposited(**fields(number)) for number in range(1024)]


def deposit(number: int) -> Deposited:
    """Return the `number`-th deposit; they repeat after 1,024."""
    return DEPOSITS[number & 1023]
