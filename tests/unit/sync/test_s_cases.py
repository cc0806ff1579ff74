"""The cases of the synchronisation protocol, up: each by its number, hub and cloud on real files, joined in memory."""

from __future__ import annotations

import random  # noqa: TID251 - a seeded source for the wire, as Runtime has one
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from hubd.model.entry import Document, Draft
from hubd.services.lines import LineReason, ensure_line, next_number
from hubd.store import documents, journal, mirror
from hubd.store.tx import Tx
from sync.cloud.settlement import ForwardedPayment, SettlementVerdict, TestAmountAcquirer
from sync.cloud.storage import CloudStorage
from sync.codec import (
    BATCH_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    Again,
    Confirm,
    Documents,
    Entries,
    Expect,
    HashAt,
    Hello,
    Limits,
    Message,
    Place,
    Proof,
    Sealer,
    Stale,
    proof_bytes,
)
from tests.rigs.process import wait_until
from tests.unit.sync.shop import LOST, ScriptedWire, forwarded, new_id, stored
from tests.unit.sync.world import TENANT, FastClock, Hub, World, copy_of


async def forked_copy(world: World, hub: Hub, name: str = "copy") -> Hub:
    """A second device that was started from a copy of the first one's disk."""
    path = await copy_of(hub, world.place / f"{name}.db")
    return await world.hub(name, path=path)


async def line_reasons(hub: Hub) -> list[str]:
    return [entry.body()["reason"] for entry in await hub.entries() if entry.kind == "line.opened"]


async def test_everything_goes_up_and_is_confirmed_with_proof(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=350)
    async with hub.online() as sync:
        await hub.drained()
        assert sync.connected is True
        assert sync.last_cloud_answer_monotonic is not None
    assert await world.holds(hub)
    assert sync.status.problems == ()


@pytest.mark.parametrize(
    ("wrong_s", "witnessed"), [(0, True), (50, True), (-50, True), (75, False), (-75, False), (-1_000_000_000, False)]
)
async def test_a_cloud_whose_clock_agrees_is_a_witness_and_no_other(
    world: World, wrong_s: int, witnessed: bool
) -> None:
    agreed: list[None] = []
    hub = await world.hub(witness=lambda: agreed.append(None))
    hub.runtime = replace(hub.runtime, clock=FastClock(wrong_s * 1_000_000))
    async with hub.online() as sync:
        await hub.drained()
        first = sync.last_cloud_answer_monotonic
        await wait_until(lambda: sync.last_cloud_answer_monotonic != first, 10, "the answer to a ping")
    assert bool(agreed) is witnessed


async def test_s01_same_place_with_other_hash_is_kept_and_alarmed(world: World) -> None:
    hub = await world.hub()
    await hub.note("common", 5)
    async with hub.online():
        await hub.drained()
    copy = await forked_copy(world, hub)
    await hub.note("first", 1)
    async with hub.online():
        await hub.drained()
    await copy.note("second", 3)
    async with copy.online():
        await copy.drained()
    assert await world.holds(hub)
    assert await world.holds(copy)
    assert "fork" in await world.incidents(hub)


async def test_s01_effect_is_done_once_for_subject_effect_and_attempt(world: World) -> None:
    hub = await world.hub()
    payment = new_id()
    await hub.append(*stored(payment, 1000), *forwarded(payment, 1000))
    again = forwarded(payment, 1000)[1]
    async with hub.online():
        await world.until(lambda: hub.kinds("payment.captured"), "the verdict")
        # The terminal says once more that it has handed the payment over: other entry, same effect and attempt.
        await hub.note()
        await hub.db.write("test.raw", lambda tx: _append_unprojected(tx, again))
        await hub.drained()
    assert world.acquirer.asked == [payment]
    assert await hub.kinds("payment.captured") == ["payment.captured"]


def _append_unprojected(tx: Tx, draft: Draft) -> None:
    """An entry whose projection would refuse it, under a version that only the test interprets as known."""
    tx.execute("UPDATE payments SET custody = 'forwarding' WHERE id = ?", (draft.subject,))
    journal.append(tx, draft)
    tx.execute("UPDATE payments SET custody = 'captured' WHERE id = ?", (draft.subject,))


async def test_s02_hub_behind_the_cloud_opens_a_line_and_gets_its_forgotten_entries_to_read(world: World) -> None:
    hub = await world.hub()
    await hub.note("kept", 4)
    copy = await forked_copy(world, hub)
    common = hub.db.head.seq
    await hub.note("forgotten", 150)
    async with hub.online():
        await hub.drained()
    forgotten = [entry for entry in await hub.entries() if entry.seq > common]
    async with copy.online():
        await world.until(lambda: copy.kinds("sync.forgotten_listed"), "the forgotten entries")
        await copy.drained()
    assert await line_reasons(copy) == ["new", "stale"]
    back = await copy.read(lambda c: mirror.entries_in_state(c, mirror.FORGOTTEN, 1000))
    assert [entry.hash for entry in back] == [entry.hash for entry in forgotten]
    assert "behind" in await world.incidents(hub)


async def test_s02_new_line_is_opened_before_anything_is_sent(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    copy = await forked_copy(world, hub)
    await hub.note(count=5)
    async with hub.online():
        await hub.drained()
    stale_line = copy.db.head.line
    wire.seen.clear()
    async with copy.online():
        await copy.note("trades on")
        await copy.drained()
    told = next(i for i, (_, message) in enumerate(wire.seen) if isinstance(message, Stale))
    after = [m for way, m in wire.seen[told:] if way == "up" and isinstance(m, Entries) and m.line == stale_line]
    heads = {entry.hash for entry in await copy.entries() if entry.line == stale_line}
    assert all(batch.upto_hash in heads for batch in after)
    note = (await copy.entries())[-1]
    assert note.line != stale_line


async def test_s03_fork_is_found_by_bisection_and_both_branches_are_kept(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    await hub.note("common", 230)
    async with hub.online():
        await hub.drained()
    copy = await forked_copy(world, hub)
    payment = new_id()
    await hub.note("left", 120)
    async with hub.online():
        await hub.drained()
    # The other device has never spoken with the cloud since the copy and is further on than it.
    await copy.append(*stored(payment, 500), *forwarded(payment, 500))
    await copy.note("right", 260)
    await copy.db.write("test.forget", _forget_confirmed)
    async with copy.online():
        await copy.drained()
        await world.until(lambda: world.holds(copy), "what the copy writes about the cloud's answer")
    assert await line_reasons(copy) == ["new", "fork"]
    assert await world.holds(hub)
    assert wire.count("down", HashAt) <= 12
    branch = next(e for e in await copy.entries() if e.kind == "payment.forwarded")
    state = await world.look(lambda s: s.known(hub.signer.hub_id, branch.hash))
    assert state == "quarantined"
    # External effects of the quarantined branch wait for a person.
    effect = await world.look(lambda s: s.effect(hub.signer.hub_id, payment, "settle", 1))
    assert effect is not None
    assert effect.state == "held_back"
    assert world.acquirer.asked == []


def _forget_confirmed(tx: Tx) -> None:
    """The copy was made before the cursor moved: it sends from entry 301 on, whose predecessor the cloud lacks."""
    tx.execute("UPDATE cursors SET seq = 300, hash = (SELECT hash FROM journal WHERE seq = 300)")


async def test_s04_lost_confirm_is_given_again_for_a_repeat(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    async with hub.online():
        await world.until(lambda: hub.kinds("epoch.assigned"), "what the hub writes about the cloud's answer")
        await hub.drained()
        before = await hub.confirmed()
        wire.rule = lambda way, message: LOST if isinstance(message, Confirm) and way == "down" else None
        await hub.note(count=250)
        await world.until(lambda: world.holds(hub), "the cloud to hold everything")
        assert await hub.confirmed() == before
        wire.rule = lambda _way, _message: None
        await hub.drained()
    last = [message for way, message in wire.seen if way == "down" and isinstance(message, Confirm)][-1]
    assert last.upto_seq == hub.db.head.seq == before + 250, "nothing new has brought the confirmation"
    assert await world.look(lambda s: s.entry_count(hub.signer.hub_id)) == hub.db.head.seq


async def test_s04_lower_confirm_does_not_move_the_cursor_back(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    await hub.note(count=150)
    async with hub.online():
        await hub.drained()
        low = next(raw for way, raw in wire.raw if way == "down" and isinstance(_open(raw), Confirm))
        high = await hub.confirmed()
        world.link.publish([(hub.signer.hub_id, low)])
        await hub.note("more")
        await hub.drained()
    assert await hub.confirmed() == high + 1


def _open(raw: bytes) -> Message:
    from sync.codec import open_frame

    return open_frame(raw).message()


async def test_s05_reordered_lost_and_doubled_batches_arrive_once(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    rng = random.Random(5)

    def storm(way: str, message: Message) -> Sequence[float] | None:
        if not isinstance(message, Entries | Confirm | Expect):
            return None
        return [rng.uniform(0.0, 0.5) for _ in range(rng.choice((0, 1, 1, 1, 2)))]

    wire.rule = storm
    await hub.note(count=1500)
    async with hub.online():
        await hub.drained(40)
    assert await world.holds(hub)
    assert await world.look(lambda s: s.entry_count(hub.signer.hub_id)) == hub.db.head.seq


async def test_s05_lost_batch_is_asked_for_once_and_those_behind_it_were_kept(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    await hub.note(count=1000)
    came: dict[int, int] = {}

    def lose_third_and_every_repeat_behind_it(way: str, message: Message) -> Sequence[float] | None:
        if not isinstance(message, Entries) or way != "up":
            return None
        times = came[message.from_seq] = came.get(message.from_seq, 0) + 1
        third = sorted(came)[2] if len(came) > 2 else -1
        lost = times == 1 if message.from_seq == third else times > 1 and message.from_seq > third
        return LOST if lost else None

    wire.rule = lose_third_and_every_repeat_behind_it
    async with hub.online():
        await hub.drained()
    assert wire.count("down", Expect) == 1
    assert await world.holds(hub)


@pytest.mark.parametrize("wrong", ["hash", "line", "beyond", "key", "tenant"])
async def test_s06_confirm_that_does_not_hold_moves_nothing(world: World, wire: ScriptedWire, wrong: str) -> None:
    hub = await world.hub()
    await hub.note(count=5)
    # Only the forged confirmation, recognised by its time, arrives.
    wire.rule = lambda way, m: LOST if isinstance(m, Confirm) and way == "down" and _proven_at(m) != 1 else None
    async with hub.online() as sync:
        await world.until(lambda: world.holds(hub), "the cloud to hold everything")
        entry = (await hub.entries())[4]
        place = Place(entry.line, entry.seq, entry.hash)
        match wrong:
            case "hash":
                place = Place(entry.line, entry.seq, bytes(32))
            case "line":
                place = Place(bytes(16), entry.seq, entry.hash)
            case "beyond":
                place = Place(entry.line, 5000, entry.hash)
        key = world.keys.current
        tenant = "another" if wrong == "tenant" else TENANT
        signature = key.sign(proof_bytes(tenant, hub.signer.hub_id, place, 1))
        if wrong == "key":
            signature = bytes(64)
        proof = Proof(key.key_id, place.line, place.seq, place.hash, 1, signature)
        nonce = [m.nonce for way, m in wire.seen if way == "up" and isinstance(m, Hello)][-1]
        sealer = Sealer(hub.address.topic("down"), key.key_id, key.sign)
        forged = sealer.seal(Confirm(place.line, place.seq, place.hash, proof), nonce)
        world.link.publish([(hub.signer.hub_id, forged)])
        await wait_until(lambda: dict(sync.status.problems).get("sync.proof_mismatch"), 10, "the problem")
        assert await hub.confirmed() == 0
        wire.rule = lambda _way, _message: None
        await hub.note("goes on")
        await hub.drained()
    assert "sync.proof_mismatch" not in dict(sync.status.problems)


def _proven_at(confirm: Confirm) -> int:
    return confirm.proof.time_us if confirm.proof else 0


async def test_s06_message_of_a_stranger_is_not_the_cloud(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    async with hub.online() as sync:
        await hub.drained()
        nonce = next(m.nonce for way, m in wire.seen if way == "up" and isinstance(m, Hello))
        stranger = Sealer(hub.address.topic("down"), "0" * 16, lambda _message: bytes(64))
        line = hub.db.head.line
        world.link.publish([(hub.signer.hub_id, stranger.seal(Stale("fork", Place(line, 1, bytes(32))), nonce))])
        await wait_until(lambda: dict(sync.status.problems).get("sync.not_the_cloud"), 10, "the problem")
    assert hub.db.head.line == line


async def test_s07_restored_cloud_takes_again_what_it_had_proven_and_does_nothing_twice(world: World) -> None:
    hub = await world.hub()
    early, late = new_id(), new_id()
    await hub.append(*stored(early, 1000), *forwarded(early, 1000))
    async with hub.online():
        await world.until(lambda: hub.kinds("payment.captured"), "the first verdict")
        await hub.drained()
    await world.back_up_cloud()
    await hub.append(*stored(late, 1012), *forwarded(late, 1012))
    await hub.note(count=120)
    async with hub.online():
        await world.until(lambda: hub.kinds("payment.declined_late"), "the second verdict")
        await hub.drained()
    await world.restore_cloud()
    world.acquirer.asked.clear()
    async with hub.online() as sync:
        await world.until(lambda: world.holds(hub), "the cloud to hold everything again")
        await hub.note("after")
        await hub.drained()
        assert "sync.cloud_restored" not in dict(sync.status.problems)
    assert "cloud_restored" in await world.incidents(hub)
    assert await hub.kinds("payment.declined_late", "payment.conflicted") == ["payment.declined_late"]
    down = await world.look(lambda s: s.down_entries(hub.signer.hub_id, 1, 1000))
    reasons = [entry.fields()["reason"] for entry in down if entry.kind == "line.opened"]
    assert reasons == ["new", "restored"]


class Undecided(TestAmountAcquirer):
    """Its files have not come yet."""

    async def verdict(self, payment: ForwardedPayment) -> SettlementVerdict | None:
        await super().verdict(payment)
        return None


async def test_s07_effect_that_the_lost_cloud_may_have_begun_is_unknown_and_a_new_one_is_not(world: World) -> None:
    """Whoever acts on effects may look an unknown one up, as the acquirer is asked here, and never begins it."""
    hub = await world.hub()
    world.acquirer = Undecided()
    await world.back_up_cloud()
    proven, later = new_id(), new_id()
    async with hub.online():
        await hub.append(*stored(proven, 1000), *forwarded(proven, 1000))
        await wait_until(lambda: world.acquirer.asked, 15, "the acquirer to be asked")
        await hub.drained()
    await world.restore_cloud()
    world.acquirer.asked.clear()
    async with hub.online():
        await hub.append(*stored(later, 1000), *forwarded(later, 1000))
        await wait_until(lambda: later in world.acquirer.asked, 15, "the acquirer to be asked about the new one")
        await hub.drained()

    def states(storage: CloudStorage) -> list[str]:
        found = [storage.effect(hub.signer.hub_id, payment, "settle", 1) for payment in (proven, later)]
        return [effect.state for effect in found if effect is not None]

    assert await world.look(states) == ["unknown", "wanted"]


async def test_s09_hub_restored_offline_trades_on_in_a_new_line_and_never_reuses_a_number(world: World) -> None:
    hub = await world.hub()
    numbers = await hub.db.write("test.number", lambda tx: next_number(tx, "till-1", "receipt"))
    copy = await forked_copy(world, hub)
    common = hub.db.head.seq
    await hub.note("forgotten", 30)
    await ensure_line(hub.db, hub.signer, hub.runtime, LineReason.REPLACED)
    forgotten = await hub.db.write("test.number", lambda tx: next_number(tx, "till-1", "receipt"))
    async with hub.online():
        await hub.drained()
    await ensure_line(copy.db, copy.signer, copy.runtime, LineReason.RESTORED)
    anew = await copy.db.write("test.number", lambda tx: next_number(tx, "till-1", "receipt"))
    await copy.note("sold offline", 3)
    assert len({numbers[0], forgotten[0], anew[0]}) == 3
    async with copy.online():
        await world.until(lambda: copy.kinds("sync.forgotten_listed"), "the forgotten entries")
        await copy.drained()
    assert await line_reasons(copy) == ["new", "restored"]
    assert await world.holds(copy)
    known = await copy.read(lambda c: mirror.entries_in_state(c, mirror.FORGOTTEN))
    forgotten_hashes = {entry.hash for entry in await hub.entries() if entry.seq > common}
    assert {entry.hash for entry in known} == forgotten_hashes
    async with copy.online():
        await copy.drained()
    assert await world.look(lambda s: s.forgotten(hub.signer.hub_id)) == []


async def test_s09_restored_hub_is_confirmed_only_what_it_holds(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    await hub.note(count=5)
    copy = await forked_copy(world, hub)
    await hub.note("forgotten", 30)
    async with hub.online():
        await hub.drained()
    wire.seen.clear()
    await ensure_line(copy.db, copy.signer, copy.runtime, LineReason.RESTORED)
    async with copy.online():
        await copy.drained()
    confirms = [message for way, message in wire.seen if way == "down" and isinstance(message, Confirm)]
    held = {entry.seq: entry.hash for entry in await copy.entries()}
    assert confirms
    assert [c.upto_seq for c in confirms if held.get(c.upto_seq) != c.hash] == []


async def test_s11_two_devices_with_one_key_both_open_lines_and_trade(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=3)
    async with hub.online():
        await hub.drained()
    copy = await forked_copy(world, hub)
    async with hub.online() as first, copy.online() as second:
        await wait_until(lambda: dict(first.status.problems).get("sync.two_starts"), 20, "the first to know")
        await wait_until(lambda: dict(second.status.problems).get("sync.two_starts"), 20, "the second to know")
        await hub.note("one")
        await copy.note("other")
        await hub.drained()
        await copy.drained()
    assert hub.db.head.line != copy.db.head.line
    assert await world.holds(hub)
    assert await world.holds(copy)
    assert "two_starts" in await world.incidents(hub)


async def test_s11_restart_of_one_hub_is_no_second_device(world: World, tmp_path: Path) -> None:
    hub = await world.hub()
    async with hub.online():
        await hub.drained()
    again = await forked_copy(world, hub, "restarted")  # another start id, while the first says nothing any more
    async with again.online() as sync:
        await again.note()
        await again.drained()
        await world.runtime.clock.sleep(30)
    assert "sync.two_starts" not in dict(sync.status.problems)
    assert "two_starts" not in await world.incidents(hub)


async def test_s13_largest_body_travels_and_batches_keep_both_limits(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub(limits=Limits(batch_entries=7))
    await hub.append(Draft("backup.made", "", "hub", {"text": "x" * 65_000}))
    await hub.note("y" * 3000, 60)
    await hub.append(Draft("backup.made", "", "hub", {"text": "z" * 65_000}))
    async with hub.online():
        await hub.drained()
    batches = [m for way, m in wire.seen if way == "up" and isinstance(m, Entries)]
    assert max(len(batch.entries) for batch in batches) <= 7
    assert max(sum(len(e.body) for e in batch.entries) for batch in batches) <= BATCH_BYTES_MAX
    assert max(len(raw) for _, raw in wire.raw) < MESSAGE_BYTES_MAX
    assert await world.holds(hub)


async def test_s16_unknown_kind_is_stored_confirmed_and_counted_as_uninterpreted(world: World) -> None:
    hub = await world.hub()
    await hub.append(Draft("garden.watered", "", "hub", {"litres": 3}))
    async with hub.online() as sync:
        await hub.drained()
        assert sync.status.uninterpreted_count == 1
    assert await world.holds(hub)


class ListArchive:
    """Entries that were taken out of the database."""

    def __init__(self, entries: Sequence[object]) -> None:
        self.entries = list(entries)
        self.asked = 0

    async def entries_after(self, seq: int, limit: int) -> tuple[bytes, Sequence[object]]:
        self.asked += 1
        prev_hash = self.entries[seq - 1].hash if seq else bytes(32)  # type: ignore[attr-defined]  # they are entries
        return prev_hash, self.entries[seq : seq + limit]


async def test_s17_restored_cloud_is_served_from_the_archive_below_the_cut(world: World) -> None:
    hub = await world.hub()
    await world.back_up_cloud()
    await hub.note(count=300)
    async with hub.online():
        await hub.drained()
    entries = await hub.entries()
    cut = 210
    body = {
        "from_seq": 1, "upto_seq": cut, "upto_hash": entries[cut - 1].hash.hex(), "file_sha256": "00" * 32,
        "entries": cut, "projection_sha256": "00" * 32,
    }  # fmt: skip

    def prune(tx: Tx) -> None:
        journal.append(tx, Draft("archive.cut", str(cut), "hub", body))
        tx.execute("UPDATE journal_cut SET upto_seq = ?, upto_hash = ?", (cut, entries[cut - 1].hash))
        tx.execute("DELETE FROM journal WHERE seq <= ?", (cut,))

    await hub.db.write("test.prune", prune)
    hub.archive = ListArchive(entries[:cut])
    await world.restore_cloud()
    async with hub.online():
        await hub.note()
        await hub.drained()
    assert hub.archive.asked > 0
    assert await world.holds(hub)
    assert await world.look(lambda s: all(s.known(hub.signer.hub_id, e.hash) for e in entries))


async def test_s18_recorded_hellos_open_no_conversation(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    await hub.note(count=3)
    async with hub.online():
        await hub.drained()
    recorded = [raw for way, raw in wire.raw if way == "up"]
    assert isinstance(_open(recorded[0]), Hello)
    await world.stop_cloud()
    await world.start_cloud()
    wire.seen.clear()
    answers = await world.cloud.receive([(hub.signer.hub_id, raw) for raw in recorded])
    said = [type(_open(frame)) for _, frame in answers]
    # The first hello is answered with a fresh nonce, which the recording cannot sign; nothing else counts.
    assert said[0] is Hello
    assert set(said[1:]) == {Again}
    assert recorded[1] != recorded[0]
    broken = recorded[0][:70] + bytes([recorded[0][70] ^ 1]) + recorded[0][71:]
    assert await world.cloud.receive([(hub.signer.hub_id, broken)]) == []


async def test_s19_documents_travel_apart_and_erased_ones_say_so(world: World, wire: ScriptedWire) -> None:
    hub = await world.hub()
    ids = [bytes([n]) * 16 for n in range(1, 5)]
    beside = [Document(id_, "receipt_lines", b"s" * 32, bytes([id_[0]]) * 200_000) for id_ in ids]
    small = Document(b"\x09" * 16, "note", b"t" * 32, b"hello")
    for document in beside:
        await hub.note("with a large document", 1, [document])
    await hub.note("with a small one", 1, [small])
    await hub.db.write("test.erase", lambda tx: documents.erase(tx, ids[3]))
    async with hub.online():
        await hub.drained()
        await world.until(lambda: _has(world, hub, ids[:3]), "the documents")
        await world.until(lambda: _none_wanted(world, hub), "no document to be wanted")
    assert await world.look(lambda s: s.document_content(hub.signer.hub_id, small.id)) == b"hello"
    assert await world.look(lambda s: s.document_content(hub.signer.hub_id, ids[3])) is None
    assert wire.count("up", Documents) >= 1
    confirmed_before = [m for way, m in wire.seen if isinstance(m, Confirm) and m.documents_wanted]
    assert confirmed_before, "entries are confirmed without waiting for their documents"


async def _has(world: World, hub: Hub, ids: Sequence[bytes]) -> bool:
    return await world.look(lambda s: all(s.document_content(hub.signer.hub_id, id_) for id_ in ids))


async def _none_wanted(world: World, hub: Hub) -> bool:
    return await world.look(lambda s: s.documents_wanted(hub.signer.hub_id, 10)) == []
