"""The cases of the synchronisation protocol, up: what the cloud does not take, and how much of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from hubd.identity import key_id_of
from hubd.model.entry import Document, Draft
from sync.cloud.service import PARKED_MAX
from sync.cloud.storage import CloudStorage
from sync.codec import (
    BATCH_SMALL_BYTES,
    NO_NONCE,
    Again,
    Confirm,
    Entries,
    Hello,
    Limits,
    Message,
    Sealer,
    WireDocument,
    open_frame,
)
from sync.sender import Sender
from tests.unit.sync.shop import LOST, ScriptedWire
from tests.unit.sync.world import World


async def test_s05_no_more_than_32_batches_are_parked_and_the_rest_is_sent_again(
    world: World, wire: ScriptedWire
) -> None:
    hub = await world.hub()
    await hub.note(count=1000)

    def fill(storage: CloudStorage) -> list[bool]:
        return [storage.park(hub.signer.hub_id, bytes((n,)) * 32, b"of a clone", PARKED_MAX) for n in range(40)]

    assert await world.look(fill) == [True] * 32 + [False] * 8
    lost: list[int] = []

    def lose_one(way: str, message: Message) -> Sequence[float] | None:
        if isinstance(message, Entries) and way == "up" and message.from_seq > 300 and not lost:
            lost.append(message.from_seq)
            return LOST
        return None

    wire.rule = lose_one
    async with hub.online():
        await hub.drained()
    assert lost
    assert await world.holds(hub)


async def test_s13_batch_of_small_entries_ends_before_64_kb(world: World) -> None:
    hub = await world.hub()
    await hub.note("y" * 3000, 60)
    await hub.append(Draft("backup.made", "", "hub", {"text": "z" * 65_000}))
    await hub.note("after")
    batches = await Sender(hub.db).batches(0, 100, Limits())
    sizes = [(len(batch.entries), sum(len(e.head) + len(e.body) for e in batch.entries)) for batch in batches]
    assert all(count == 1 or size <= BATCH_SMALL_BYTES for count, size in sizes), sizes
    assert sum(count for count, _ in sizes) == hub.db.head.seq
    assert max(count for count, _ in sizes) > 15, "and not long before"


async def test_s18_entries_count_only_after_the_hub_has_signed_our_nonce_in_its_newest_connection(world: World) -> None:
    hub = await world.hub()
    (batch,) = await Sender(hub.db).batches(0, 1, Limits())
    head, hub_id = hub.db.head, hub.signer.hub_id
    seal = Sealer(hub.address.topic("up"), key_id_of(hub.signer.public_key), hub.signer.sign).seal

    async def say(message: Message, to: bytes) -> list[Message]:
        return [open_frame(raw).message() for _, raw in await world.cloud.receive([(hub_id, seal(message, to))])]

    def hello(nonce: bytes, connection: int) -> Hello:
        return Hello(nonce * 16, connection, head.line, head.seq, head.hash, start="one")

    async def greeted(nonce: bytes, connection: int) -> bytes:
        (answer,) = await say(hello(nonce, connection), NO_NONCE)
        assert isinstance(answer, Hello)
        return answer.nonce

    to = await greeted(b"a", 2)
    assert [type(one) for one in await say(batch, to)] == [Again], "a hello alone may be a recording"
    assert await say(hello(b"x", 2), to) == [], "nor does a hello of another conversation open this one"
    assert [type(one) for one in await say(batch, to)] == [Again]
    assert await world.look(lambda s: s.entry_count(hub_id)) == 0
    await say(hello(b"a", 2), to)
    assert Confirm in [type(one) for one in await say(batch, to)]
    late = await greeted(b"b", 1)
    await say(hello(b"b", 1), late)
    assert [type(one) for one in await say(batch, late)] == [Again], "an older connection, delivered late"


async def test_s19_document_that_is_not_the_one_named_is_not_kept(world: World) -> None:
    hub = await world.hub()
    named = Document(b"\x09" * 16, "note", b"t" * 32, b"hello")
    await hub.note("with a document", 1, [named])
    async with hub.online():
        await hub.drained()
    other = WireDocument(named.id, "note", named.salt, b"other")
    hub_id = hub.signer.hub_id
    assert not await world.look(lambda s: world.cloud.service.upload.take_document(s, hub_id, other))
    assert await world.look(lambda s: s.document_content(hub_id, named.id)) == b"hello"
    assert "document_digest" in await world.incidents(hub)
