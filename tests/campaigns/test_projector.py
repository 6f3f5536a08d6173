"""Projectors behind Kafka under faults: killed, frozen, cut off, their broker killed, under a steady load.

    make campaign ARGS="-k projector"    the long form: 60 kills, 20 zombies, 20 broker kills, 30 cuts
    make test                            the quick form: a few of each

Two instances share the topic's partitions, so that every fault of one is a rebalance, too. Whatever happens, the read
model is in the end what a clean fold of the log is; and within five seconds after a fault it shows all that was in the
log when the fault was over. A member that dies without a word is missed after its session, which is a part of these
five seconds: two of them, which the campaign's broker allows (by default a broker takes no session below six).
"""

from __future__ import annotations

import asyncio

from eventstore.outbox.publisher import DEFAULT_BATCH
from eventstore.streams import ANY
from fixtures.behind_relay import MODEL, Projecting, begun
from fixtures.campaigns import PATIENCE
from fixtures.in_effect import Orders, clean_fold, orders_in
from fixtures.kafka_proxy import Api, How
from fixtures.relay import SESSION_SECONDS, STREAMS, Campaign
from fixtures.relay_broker import RelayBroker
from fixtures.shop import placed

PLACES = ("fetched", "handling", "handled", "committed")


# --- the promises ----------------------------------------------------------------------------------------------------


async def test_a_projector_killed_anywhere_loses_and_doubles_nothing(campaign: Campaign) -> None:
    kills = campaign.times(60, 2)
    async with campaign.relay(f"{kills} kills of projectors") as relay:
        await relay.publisher()
        await relay.moves_on()
        projecting = Projecting(relay)
        working = await projecting.start()
        for _ in range(kills):
            place = relay.chance.choice(PLACES)
            await working.said("committed")
            standby = await projecting.start()
            await working.arm(place, relay.chance.randint(1, 5))
            await working.stopped(place)
            await working.kill()
            await projecting.shows_all()
            working = standby
        await projecting.is_clean()


async def test_a_projector_frozen_past_its_session_wakes_up_fenced(campaign: Campaign) -> None:
    zombies = campaign.times(20, 1)
    async with campaign.relay(f"{zombies} projectors frozen, then killed") as relay:
        projecting = await begun(relay)
        for _ in range(zombies):
            working, place = await projecting.start(), relay.chance.choice(PLACES)
            await working.said("committed")
            await working.arm(place, relay.chance.randint(1, 5))
            await working.stopped(place)
            # It must be out of its group when it wakes.
            await asyncio.sleep(SESSION_SECONDS + relay.chance.uniform(1, 3))
            working.wake()
            await projecting.shows_all()
            await working.kill()
            await projecting.shows_all()
        await projecting.is_clean()


async def test_a_broker_killed_under_projectors_costs_nothing_but_time(
    campaign: Campaign, relay_broker: RelayBroker
) -> None:
    kills = campaign.times(20, 1)
    async with campaign.relay(f"{kills} broker kills under projectors", batch=DEFAULT_BATCH) as relay:
        projecting = await begun(relay)
        for _ in range(kills):
            await asyncio.sleep(relay.chance.uniform(0, 0.3))  # not a wait for anything: the kill is to be anywhere
            await relay_broker.kill()
            await projecting.shows_all()
        await projecting.is_clean()


async def test_a_projectors_connection_cut_or_held_costs_nothing_but_time(
    campaign: Campaign, relay_broker: RelayBroker
) -> None:
    cuts = campaign.times(30, 2)
    hows = [How.ANSWER_LOST, How.ANSWER_HELD, How.LOST, How.LATE]
    async with campaign.relay(f"{cuts} cuts of projectors") as relay:
        projecting = await begun(relay)
        for number in range(cuts):
            how = hows[number % len(hows)]
            relay_broker.proxy.once(Api.FETCH, how)
            async with asyncio.timeout(PATIENCE):
                await relay_broker.proxy.happened.wait()
            if how in {How.LATE, How.ANSWER_HELD}:
                await asyncio.sleep(relay.chance.uniform(0.5, 4.0))  # some are given up by the client, some are not
                relay_broker.proxy.release()
            await projecting.shows_all()
        await projecting.is_clean()


# --- without a rule --------------------------------------------------------------------------------------------------


async def test_offsets_moved_outside_the_projectors_transaction_are_caught(campaign: Campaign) -> None:
    async with campaign.relay("offsets outside") as relay:
        await relay.publisher()
        await relay.moves_on()
        projecting = Projecting(relay)
        working = await projecting.start(offsets_outside=True)
        await working.said("committed")
        await working.arm("handled")
        await working.stopped("handled")
        await working.kill()
        heir = await projecting.start(offsets_outside=True)
        await heir.said("committed")
        await relay.end_load()
        for number in range(STREAMS):  # where these are shown, so is all that will ever be
            await relay.store.append(f"order-{number}", [placed()], expected_version=ANY)
        clean = await clean_fold(relay.store)
        async with asyncio.timeout(PATIENCE):
            while last_versions(await orders_in(relay.store, MODEL)) != last_versions(clean):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        assert await orders_in(relay.store, MODEL) != clean


def last_versions(orders: Orders) -> dict[str, int]:
    return {stream: version for stream, (_, version, _) in orders.items()}
