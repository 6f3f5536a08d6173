"""The relay under faults: publishers killed and frozen, brokers killed, connections cut and held, under a steady load.

    make campaign ARGS="-k relay"    the long form: 100 kills, 50 zombies, 50 broker kills, 10 of one of three, 50 cuts
    make test                        the quick form: a few of each

Whatever happens, a reader of committed records sees each event once and in the order of its stream; a reader of
everything, aborted records included, sees first occurrences in order; what a projector makes of it is for both the same
as a clean fold of the log; and within five seconds after a fault the backlog is gone. At the end there is a publisher
for each rule that the relay stands on, which breaks it, and is caught.
"""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from eventstore import EventStore
from eventstore.outbox.publisher import DEFAULT_BATCH
from eventstore.streams import ANY
from fixtures.behind_relay import begun
from fixtures.campaigns import PATIENCE, Chance
from fixtures.kafka_cluster import ThreeBrokers
from fixtures.kafka_proxy import Api, How
from fixtures.kafka_tools import eventually
from fixtures.relay import DRAINS_WITHIN, Campaign, Relay
from fixtures.relay_broker import RelayBroker
from fixtures.shop import placed
from fixtures.stoppable import Process

AT_WORK = ("idle", "begun", "sent", "committed")
AT_START = ("fencing", "fenced", "cursor", "idle")


async def set_limit(relay: Relay, size: int) -> None:
    """Let the topic accept record batches of so many bytes."""
    admin = AIOKafkaAdminClient(**relay.settings.client_options())
    await admin.start()
    try:
        settings = {"max.message.bytes": str(size), "retention.ms": "-1"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, relay.topic, settings)])
    finally:
        await admin.close()


# --- the promises ----------------------------------------------------------------------------------------------------


async def test_a_publisher_killed_anywhere_loses_doubles_and_reorders_nothing(campaign: Campaign) -> None:
    kills = campaign.times(80, 2)
    async with campaign.relay(f"{kills} kills of publishers") as relay:
        working = await relay.publisher()
        await relay.moves_on()
        for _ in range(kills):
            place = relay.chance.choice(AT_WORK)
            standby = await relay.publisher()
            await working.arm(place, relay.chance.randint(1, 20))
            await working.stopped(place)
            if relay.chance.random() < 0.3:  # and its heir, while it starts
                heir, place = standby, relay.chance.choice(AT_START)
                await heir.arm(place)
                await working.kill()
                await heir.stopped(place)
                standby = await relay.publisher()
                await heir.kill()
            else:
                await working.kill()
            await relay.drains()
            working = standby
        faults = await ended(relay)
    assert faults == {}


async def test_a_publisher_killed_while_it_sends_a_parked_stream_loses_doubles_and_reorders_nothing(
    campaign: Campaign,
) -> None:
    kills = campaign.times(20, 1)
    async with campaign.relay(f"{kills} kills in unpark") as relay:
        await relay.publisher()
        await relay.moves_on()
        for number in range(kills):
            stream = f"order-parked.{number}"
            await park(relay, stream)
            place = relay.chance.choice(("fenced", "cursor", *AT_WORK))
            repair = await relay.publisher(unpark=stream)
            await repair.arm(place)
            await repair.stopped(place)
            await repair.kill()
            again = await relay.publisher(unpark=stream)
            await again.arm("nowhere")
            await again.said("unparked")
            await relay.drains()
        faults = await ended(relay)
    assert faults == {}


async def park(relay: Relay, stream: str) -> None:
    """Have a stream parked, with several events held."""
    await set_limit(relay, 2000)
    for size in (1, 5000, 1, 1):
        await relay.store.append(stream, [placed(sku="t" * size)], expected_version=ANY)

    async def is_parked() -> bool:
        rows = await relay.store.database.fetch("list_parked_by_publishers", ["orders"])
        return any(row[1] == stream for row in rows)

    await eventually(is_parked)
    await set_limit(relay, 100_000)


async def test_a_publisher_frozen_past_its_lease_wakes_up_fenced(campaign: Campaign) -> None:
    zombies = campaign.times(40, 2)
    async with campaign.relay(f"{zombies} frozen publishers") as relay:
        working, standby = await relay.publisher(), await relay.publisher()
        await relay.moves_on()
        working, standby = await who_works(working, standby)
        for number in range(zombies):
            if number % 2:
                await freeze_at_work(relay, working)
                working, standby = standby, working
            else:  # the worker is killed, and its heir frozen at its start
                place = relay.chance.choice(AT_START)
                await standby.arm(place)
                await working.kill()
                await standby.stopped(place)
                working = await relay.publisher()
                await relay.moves_on()
                standby.wake()
                await relay.drains()
            working, standby = await who_works(working, standby)
        faults = await ended(relay)
    assert faults == {}


async def freeze_at_work(relay: Relay, working: Process) -> None:
    """Stop a worker until another one has taken over, and let it go on."""
    place = relay.chance.choice(AT_WORK)
    await working.arm(place, relay.chance.randint(1, 10))
    await working.stopped(place)
    await relay.moves_on()
    working.wake()
    await relay.drains()


async def who_works(*processes: Process) -> tuple[Process, Process]:
    """Return the processes, the one that publishes first."""
    first, second = processes
    first.forget()
    second.forget()
    waiting = {asyncio.create_task(one.said("committed")): one for one in processes}
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return (first, second) if waiting[done.pop()] is first else (second, first)


async def test_two_zombies_at_once_are_both_fenced(campaign: Campaign) -> None:
    async with campaign.relay("two zombies") as relay:
        await two_zombies(relay)
        faults = await ended(relay)
    assert faults == {}


async def two_zombies(relay: Relay) -> None:
    """Freeze a worker between two transactions, its heir before the fencing; wake the worker, and then the heir."""
    working = await relay.publisher()
    await relay.moves_on()
    heir = await relay.publisher(lease_seconds=PATIENCE)  # it is frozen too, but keeps what it has taken over
    await heir.arm("fencing")
    async with relay.at_rest():  # else it still has a move of the mirror to make, and the heir starts over for that
        await working.arm("idle", then="committed")
    await working.stopped("idle")
    await heir.stopped("fencing")
    working.wake()
    await working.stopped("committed")
    await working.kill()  # before its mirror tells
    heir.wake()
    await relay.moves_on()


async def test_groups_that_change_hands_while_their_worker_is_frozen_or_killed_stay_exactly_once(
    campaign: Campaign,
) -> None:
    rounds = campaign.times(10, 1)
    async with campaign.relay(f"{rounds} frozen publishers with groups", groups=3) as relay:
        first = await relay.publisher()
        await relay.moves_on()
        for _ in range(rounds):
            second = await relay.publisher()  # takes its share: groups change hands
            place = relay.chance.choice(AT_WORK)
            await first.arm(place, relay.chance.randint(1, 10))
            await first.stopped(place)
            await relay.moves_on()
            first.wake()
            await relay.drains()
            await first.kill()
            await relay.drains()
            first = second
        faults = await ended(relay)
    assert faults == {}


async def test_a_broker_killed_under_load_costs_nothing_but_time(campaign: Campaign, relay_broker: RelayBroker) -> None:
    kills = campaign.times(50, 1)
    async with campaign.relay(f"{kills} broker kills under publishers", batch=DEFAULT_BATCH) as relay:
        await relay.publisher()
        await relay.moves_on()
        for _ in range(kills):
            await asyncio.sleep(relay.chance.uniform(0, 0.3))  # not a wait for anything: the kill is to be anywhere
            await relay_broker.kill()
            await relay.drains()
        faults = await ended(relay)
    assert faults == {}


async def test_one_of_three_brokers_killed_under_load_costs_nothing_but_time(
    three_brokers: ThreeBrokers, store: EventStore, dsn: str, chance: Chance, *, is_long: bool
) -> None:
    campaign = Campaign(three_brokers, store, dsn, chance, is_long)
    # The long form has the machine to itself; the quick one's three brokers share it with tests beside.
    kills, within = campaign.times(10, 1), DRAINS_WITHIN if is_long else 4 * DRAINS_WITHIN
    async with campaign.relay(f"{kills} kills of one of three brokers", batch=DEFAULT_BATCH) as relay:
        projecting = await begun(relay)
        for _ in range(kills):
            killed = relay.chance.choice(three_brokers.brokers)
            killed.kill()
            await three_brokers.goes_on_without(killed)
            await relay.drains(within)
            await projecting.shows_all(within)
            killed.start()
            await killed.is_serving()
            await three_brokers.are_in_sync()
            async with asyncio.timeout(within):
                await relay.moves_on()
                await projecting.shows_all()
        await projecting.is_clean()
        faults = await ended(relay)
    assert faults == {}


CUTS = [
    (api, how)
    for api in (Api.END_TXN, Api.PRODUCE, Api.ADD_PARTITIONS, Api.INIT_PRODUCER_ID)
    for how in How
    if api is not Api.INIT_PRODUCER_ID or how in {How.LOST, How.ANSWER_LOST}
]


async def test_a_connection_cut_or_held_at_any_request_costs_nothing_but_time(
    campaign: Campaign, relay_broker: RelayBroker
) -> None:
    cuts = campaign.times(50, 4)
    async with campaign.relay(f"{cuts} cuts of publishers") as relay:
        working = await relay.publisher()
        await relay.moves_on()
        for number in range(cuts):
            api, how = CUTS[number % len(CUTS)]
            relay_broker.proxy.once(api, how)
            if api is Api.INIT_PRODUCER_ID:
                await working.kill()  # only who begins asks that
                working = await relay.publisher()
            async with asyncio.timeout(30):
                await relay_broker.proxy.happened.wait()
            if how in {How.LATE, How.ANSWER_HELD}:
                await asyncio.sleep(relay.chance.uniform(0.5, 4.0))  # some are given up by the client, some are not
                relay_broker.proxy.release()
            await relay.drains()
        faults = await ended(relay)
    assert faults == {}


async def ended(relay: Relay) -> dict[str, list[str]]:
    """End the load, wait until all is published, and return what is wrong with it."""
    await relay.end_load()
    await relay.moves_on()
    return await relay.faults()


# --- without a rule --------------------------------------------------------------------------------------------------


async def test_a_cursor_outside_the_kafka_transaction_is_caught(campaign: Campaign) -> None:
    async with campaign.relay("cursor outside", variant="cursor outside") as relay:
        working = await relay.publisher()
        await working.arm("between", 3)
        await working.stopped("between")
        await working.kill()
        await relay.publisher()
        faults = await ended(relay)
    assert faults["doubled"]


async def test_a_cursor_read_before_the_fencing_is_caught(campaign: Campaign) -> None:
    async with campaign.relay("cursor first", variant="cursor first") as relay:
        await two_zombies(relay)
        faults = await ended(relay)
    assert faults["doubled"]


async def test_sends_that_nobody_waits_for_are_caught(campaign: Campaign) -> None:
    async with campaign.relay("sends unawaited", variant="sends unawaited") as relay:
        await relay.publisher()
        await relay.moves_on()
        await set_limit(relay, 2000)
        for _ in range(5):
            await relay.store.append("order-large", [placed(sku="t" * 5000)], expected_version=ANY)
        await relay.moves_on()
        faults = await ended(relay)
    assert faults["missing"]


async def test_a_transactional_id_for_each_instance_is_caught(campaign: Campaign) -> None:
    async with campaign.relay("an id each", variant="an id each") as relay:
        zombie = await relay.publisher()
        await relay.moves_on()
        await zombie.arm("idle", 3)
        await zombie.stopped("idle")
        await relay.publisher()
        await relay.moves_on()
        zombie.forget()
        zombie.wake()
        await zombie.said("committed")
        faults = await ended(relay)
    assert faults["doubled"]
