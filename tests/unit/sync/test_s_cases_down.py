"""The cases of the synchronisation protocol, down: the cloud's journal on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hubd.errors import SyncError
from hubd.model.entry import Entry
from hubd.store import cursors, journal, mirror, outages, payments
from sync.cloud.keys import CloudKeys
from sync.codec import (
    NO_NONCE,
    Again,
    Confirm,
    Entries,
    Forgotten,
    Hello,
    Limits,
    Message,
    Place,
    Refused,
    Sealer,
    Stale,
    common_protocol,
)
from sync.engine import HubEngine, MoveCursor, OpenLine, Report
from sync.trust import Trust
from tests.rigs.process import wait_until
from tests.unit.sync.shop import LOST, TWICE, ScriptedWire, forwarded, new_id, outage_closed, outage_opened, stored
from tests.unit.sync.world import Hub, World, copy_of

LINE = b"l" * 16
NEW_KEY = bytes(range(100, 132))


async def verdict_entries(hub: Hub) -> list[Entry]:
    return [entry for entry in await hub.entries() if entry.kind == "payment.captured"]


async def test_s08_restored_cloud_gets_back_its_verdicts_and_does_not_give_others(
    world: World, wire: ScriptedWire
) -> None:
    hub = await world.hub()
    async with hub.online():
        await hub.drained()
    await world.back_up_cloud()
    payment = new_id()
    await hub.append(*stored(payment, 1000), *forwarded(payment, 1000))
    async with hub.online():
        await world.until(lambda: verdict_entries(hub), "the verdict")
        await hub.drained()
    lost = (await hub.applied()).line
    await world.restore_cloud()
    world.acquirer.asked.clear()
    async with hub.online():
        await world.until(lambda: world.holds(hub), "the cloud to hold everything again")
        await hub.drained()

        async def new_line_applied() -> bool:
            return (await hub.applied()).line != lost

        await world.until(new_line_applied, "the cloud's new line")
        await hub.drained()
    assert wire.count("up", Forgotten) >= 1
    effect = await world.look(lambda s: s.effect(hub.signer.hub_id, payment, "settle", 1))
    assert effect is not None
    assert (effect.state, effect.detail) == ("done", "captured")
    assert world.acquirer.asked == [], "what was said before is learnt from the hub, not asked again"
    assert len(await verdict_entries(hub)) == 1
    assert "payment.conflicted" not in await hub.kinds()


async def test_s10_restored_hub_applies_again_and_says_that_it_is_a_repeat(world: World) -> None:
    hub = await world.hub()
    payment = new_id()
    await hub.append(*stored(payment, 1000), *forwarded(payment, 1000))
    path = await copy_of(hub, world.place / "copy.db")
    async with hub.online():
        await world.until(lambda: verdict_entries(hub), "the verdict")
        await hub.drained()
    first = (await verdict_entries(hub))[0].body()["cause"]
    copy = await world.hub("copy", path=path)
    async with copy.online():
        await world.until(lambda: verdict_entries(copy), "the verdict again")
        await copy.drained()
    again = (await verdict_entries(copy))[0].body()["cause"]
    assert "repeated" not in first
    assert again == first | {"repeated": True}
    assert world.acquirer.asked == [payment]


async def test_s12_repeats_only_confirm_again(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    wire.rule = lambda way, m: TWICE if way == "down" and isinstance(m, Entries) else None
    ids = [new_id() for _ in range(20)]
    for payment in ids:
        await hub.append(*stored(payment, 1000), *forwarded(payment, 1000))
    async with hub.online():
        await world.until(lambda: _as_many(hub, 20), "the verdicts")
        await hub.drained()
    assert sorted(entry.head.subject for entry in await verdict_entries(hub)) == sorted(ids)
    downs = wire.count("down", Entries)
    assert wire.count("up", Confirm) > downs


async def _as_many(hub: Hub, count: int) -> bool:
    return len(await verdict_entries(hub)) == count


async def test_s12_lost_down_batches_are_sent_until_they_are_confirmed(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    dropped: list[int] = []

    def lose(way: str, message: Message) -> Sequence[float] | None:
        if isinstance(message, Entries) and way == "down" and len(dropped) < 3:
            dropped.append(message.from_seq)
            return LOST
        return None

    wire.rule = lose
    payment = new_id()
    await hub.append(*stored(payment, 1000), *forwarded(payment, 1000))
    async with hub.online():
        await world.until(lambda: verdict_entries(hub), "the verdict")
    assert len(dropped) == 3


async def test_s14_poison_is_set_aside_and_blocks_nothing_and_is_retried(world: World) -> None:
    hub = await world.hub()
    payment, unknown = new_id(), new_id()
    await hub.append(*stored(payment, 1000))
    async with hub.online() as sync:
        await hub.drained()
        say = world.cloud.say
        hub_id = hub.signer.hub_id
        await say(hub_id, "setting.changed", "no.such", setting("no.such"))
        await say(hub_id, "payment.verdict", unknown, verdict(unknown))
        await say(hub_id, "payment.verdict", payment, {"payment": payment})
        await say(hub_id, "weather.changed", "", {"sun": True})
        await say(hub_id, "payment.verdict", payment, verdict(payment))
        await world.until(lambda: verdict_entries(hub), "the verdict behind the poison")
        letters = await hub.read(lambda c: mirror.dead_letters(c))
        assert [letter.reason.partition(":")[0] for letter in letters] == [
            "unknown_setting",
            "sync.unknown_payment",
            "sync.invalid_entry",
        ]
        assert await hub.read(lambda c: mirror.count_in_state(c, mirror.UNINTERPRETED)) == 1
        assert await sync.retry() == 0
        # What was missing has come: the same entry is applied now, and its letter is closed.
        await hub.append(*stored(unknown, 700))
        assert await sync.retry() == 1
    row = await hub.read(lambda c: payments.get(c, unknown))
    assert row is not None
    assert row.custody == "captured"
    assert len(await hub.read(lambda c: mirror.dead_letters(c))) == 2


async def test_s14_retry_keeps_the_order_of_a_subject(world: World) -> None:
    hub = await world.hub()
    payment, other = new_id(), new_id()
    async with hub.online() as sync:
        await hub.drained()
        for fields in ({"payment": payment}, verdict(payment), verdict(other)):
            await world.cloud.say(hub.signer.hub_id, "payment.verdict", fields["payment"], fields)

        async def all_dead() -> bool:
            return await hub.read(mirror.dead_letter_count) == 3

        await world.until(all_dead, "three letters")
        await hub.append(*stored(payment, 700), *stored(other, 800))
        assert await sync.retry() == 1, "the one behind a letter that fails again waits"
    assert [entry.head.subject for entry in await verdict_entries(hub)] == [other]


def setting(key: str) -> dict[str, Any]:
    return {"key": key, "value": 1, "scope": "store", "effective_from_us": 0}


def verdict(payment: str, word: str = "captured") -> dict[str, Any]:
    return {"payment": payment, "attempt": 1, "verdict": word, "code": "00"}


async def test_s14_contradicting_verdict_makes_a_conflict_and_overwrites_nothing(world: World) -> None:
    hub = await world.hub()
    payment = new_id()
    await hub.append(*stored(payment, 1000))
    async with hub.online():
        await hub.drained()
        for word in ("captured", "captured", "declined_late"):
            await world.cloud.say(hub.signer.hub_id, "payment.verdict", payment, verdict(payment, word))
        await world.until(lambda: hub.kinds("payment.conflicted"), "the conflict")
    row = await hub.read(lambda c: payments.get(c, payment))
    assert row is not None
    assert (row.state, row.custody) == ("conflict", "captured")
    assert await hub.kinds("payment.captured", "payment.conflicted") == ["payment.captured", "payment.conflicted"]


async def test_cause_ends_the_answers(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    payment = new_id()
    await hub.append(*stored(payment, 1000), *forwarded(payment, 1000))
    async with hub.online():
        await world.until(lambda: verdict_entries(hub), "the verdict")
        await hub.drained()
        before = await world.look(lambda s: s.down_head(hub.signer.hub_id))
        await hub.note()
        await hub.drained()
        assert await world.look(lambda s: s.down_head(hub.signer.hub_id)) == before


async def test_rotated_key_is_believed_because_the_root_signed_it_and_nothing_is_interrupted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    hub = await world.hub()
    async with hub.online() as sync:
        await hub.drained()
        world.link.publish(await world.cloud.rotate_key(NEW_KEY))
        await world.until(lambda: knows_key(world, hub), "the new key")
        await hub.note()
        await hub.drained()
        assert sync.status.problems == ()
    warned = [
        (record.message, vars(record).get("reason", "")) for record in caplog.records if record.levelname == "WARNING"
    ]
    # Time runs twenty times as fast here: a busy machine may be silent for too long, which is no distrust.
    assert [one for one in warned if one[0] != "sync.link_down" or not one[1].startswith("TimeoutError")] == []
    proof = await hub.read(cursors.latest_proof)
    assert proof is not None
    assert proof.key_id == world.keys.current.key_id


async def knows_key(world: World, hub: Hub) -> bool:
    found = await hub.read(lambda c: journal.entries_of(c, world.keys.signing[-1].key_id))
    return [entry.kind for entry in found] == ["cloud.keys_rotated"]


async def test_key_that_a_cloud_has_from_its_start_is_introduced_once_and_its_statements_agree(world: World) -> None:
    """Rotation as an operator does it: a further key file, and the cloud is started anew."""
    hub = await world.hub()
    async with hub.online() as sync:
        await hub.drained()
        await world.stop_cloud()
        world.keys.vouch_for(NEW_KEY)
        world.keys.rotate()
        await world.start_cloud()
        outage = new_id()
        await hub.append(outage_opened(outage), outage_closed(outage))
        await world.until(lambda: hub.kinds("statement.received"), "the statement")
        assert await knows_key(world, hub)
        assert sync.status.problems == ()
    (statement,) = await hub.read(lambda c: outages.statements(c, outage))
    assert statement.document["key_id"] == world.keys.current.key_id
    assert statement.agrees
    down = await world.look(lambda s: s.down_entries(hub.signer.hub_id, 1, 1000))
    told = [entry.subject for entry in down if entry.kind == "cloud.keys_rotated"]
    assert sorted(told) == sorted(key.key_id for key in world.keys.signing)


async def test_key_that_only_a_stranger_vouches_for_is_not_believed(world: World) -> None:
    hub = await world.hub()
    async with hub.online() as sync:
        await hub.drained()
        stranger = CloudKeys(bytes(range(7, 39)), (NEW_KEY,))
        (nonce,) = world.cloud.service._sessions[hub.signer.hub_id]
        seal = Sealer(hub.address.topic("down"), stranger.current.key_id, stranger.current.sign).seal
        world.link.publish([(hub.signer.hub_id, seal(Again(nonce, stranger.certificates()), NO_NONCE))])
        await wait_until(lambda: dict(sync.status.problems).get("sync.not_the_cloud"), 10, "the problem")
        await hub.note()
        await hub.drained()
        assert sync.status.connected


# -- the engine alone --------------------------------------------------------------------------------------------------


def talking_engine(confirmed: int = 0) -> HubEngine:
    engine = HubEngine(b"h" * 16, confirmed, b"l" * 16)
    engine.hear(Hello(b"c" * 16, 1, b"d" * 16, 0, bytes(32)), 0.0)
    return engine


@pytest.mark.parametrize("reason", ["behind", "fork", "two_starts"])
def test_s02_nothing_leaves_between_the_word_and_the_new_line(reason: str) -> None:
    engine = talking_engine()
    engine.line = LINE
    assert engine.room > 0
    opens = engine.hear(Stale(reason, Place(LINE, 7, bytes(32))), 1.0)[0]
    assert opens == OpenLine(reason, Place(LINE, 7, bytes(32)))
    assert engine.room == 0
    engine.line_opened(b"m" * 16)
    assert engine.room > 0
    assert engine.hear(Stale(reason, Place(LINE, 7, bytes(32))), 2.0) == [], "said twice, opened once"


def test_s04_lower_confirm_is_ignored() -> None:
    engine = talking_engine()
    engine.sent(1, 100, 0.0)
    high, low = Confirm(LINE, 100, bytes(32)), Confirm(LINE, 60, bytes(32))
    assert engine.hear(high, 1.0) == [MoveCursor(high)]
    assert engine.hear(low, 1.0) == []
    assert (engine.confirmed_seq, engine.sent_upto) == (100, 100)


def test_s13_smaller_limits_of_either_side_count() -> None:
    engine = HubEngine(b"h" * 16, 0, b"l" * 16, limits=Limits(batch_entries=50, in_flight=9))
    small = Limits(batch_entries=70, batch_bytes=1000, in_flight=4)
    engine.hear(Hello(b"c" * 16, 1, b"d" * 16, 0, bytes(32), limits=small), 0.0)
    assert engine.room == 4
    assert (engine.batch_limits.batch_entries, engine.batch_limits.batch_bytes) == (50, 1000)


def test_s14_refused_batch_is_sent_plainly_once_and_then_reported() -> None:
    engine = talking_engine()
    engine.sent(1, 100, 0.0)
    assert engine.compress(1)
    assert engine.hear(Refused(1, "codec"), 1.0) == []
    assert engine.sent_upto == 0
    assert not engine.compress(1)
    engine.sent(1, 100, 2.0)
    (report,) = engine.hear(Refused(1, "codec"), 3.0)
    assert isinstance(report, Report)
    assert report.code == "sync.rejected"
    assert engine.room == 0


def test_s15_no_common_protocol_is_said_and_the_highest_common_is_taken() -> None:
    assert common_protocol((1, 3), (2, 5)) == 3
    with pytest.raises(SyncError, match="too_old"):
        common_protocol((1, 1), (2, 3))
    engine = HubEngine(b"h" * 16, 0, b"l" * 16)
    with pytest.raises(SyncError, match="too_old"):
        engine.hear(Hello(b"c" * 16, 1, b"d" * 16, 0, bytes(32), protocol=(2, 3)), 0.0)
    assert not engine.talking


def test_s18_hub_hears_only_what_the_cloud_has_signed_for_this_connection() -> None:
    ours, older, peer = b"n" * 16, b"o" * 16, b"c" * 16
    keys = CloudKeys(bytes(range(32)), ())
    seal = Sealer("topic", keys.current.key_id, keys.current.sign).seal
    trust = Trust("topic")
    trust.know(keys.root.public_key, {})
    stale = Stale("fork", Place(LINE, 1, bytes(32)))
    assert trust.open(seal(stale, ours), ours, peer) == stale
    assert trust.open(seal(stale, older), ours, peer) is None, "recorded in another connection"
    assert trust.open(seal(stale, NO_NONCE), ours, peer) is None, "for nobody"
    assert trust.open(seal(Again(peer), NO_NONCE), ours, peer) == Again(peer)
    assert trust.open(seal(Again(older), NO_NONCE), ours, peer) is None, "of another conversation"
    for wrong in (
        Sealer("other", keys.current.key_id, keys.current.sign),
        Sealer("topic", "0" * 16, keys.current.sign),
    ):
        with pytest.raises(SyncError, match="not_the_cloud"):
            trust.open(wrong.seal(stale, ours), ours, peer)


def test_silence_sends_again_from_what_is_confirmed() -> None:
    engine = talking_engine(confirmed=10)
    engine.sent(11, 110, 0.0)
    engine.sent(111, 210, 0.0)
    assert not engine.tick(9.0)
    assert engine.tick(11.0)
    assert engine.sent_upto == 10


def test_confirmation_is_not_the_brokers_word() -> None:
    engine = talking_engine()
    engine.sent(1, 100, 0.0)
    assert engine.confirmed_seq == 0
    engine.hear(Confirm(b"l" * 16, 100, bytes(32)), 1.0)
    assert engine.confirmed_seq == 100
    engine.hear(Confirm(b"l" * 16, 60, bytes(32)), 1.0)
    assert engine.confirmed_seq == 100
