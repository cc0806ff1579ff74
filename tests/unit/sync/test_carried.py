"""What a replaced hub has not sent, carried by hand: the export, the cloud that takes it, and spoiled files."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from hubd.errors import HubError
from hubd.identity import KeySigner
from hubd.model.entry import Document
from hubd.services.lines import LineReason, ensure_line
from sync.carried import MAGIC, Unpacker
from sync.cloud.credentials import OpenBroker
from sync.cloud.http import BrokerPlace, CloudHttp
from sync.export import export, header_of
from tests.unit.sync.shop import cash, new_id
from tests.unit.sync.world import Hub, World, copy_of

LARGE = 200 * 1024
"""Two documents of this size do not fit into one batch."""


@dataclass
class Carrying:
    """The old hub, which cannot reach the cloud, and the cloud's door."""

    world: World
    old: Hub
    http: httpx2.AsyncClient
    sale: str

    async def carry(self, file: bytes) -> httpx2.Response:
        return await self.http.post("/carried", content=file)

    async def documents(self) -> list[bytes | None]:
        return [await self.world.look(lambda s, n=n: s.document_content(self.old.signer.hub_id, n)) for n in IDS]  # type: ignore[misc]  # the default binds the loop's value

    async def sold(self) -> tuple[int, int] | None:
        """Amount of the sale in the cloud's ledger, and how often it was made."""
        row = await self.world.look(lambda s: s.payment(self.old.signer.hub_id, self.sale, False))
        return (row.amount, row.times_created) if row else None

    async def counted(self) -> int:
        return await self.world.look(lambda s: s.entry_count(self.old.signer.hub_id))


IDS = [bytes([number]) * 16 for number in (1, 2)]


def document(number: int) -> Document:
    return Document(IDS[number], "note", bytes([number]) * 32, bytes([65 + number]) * LARGE)


async def exported(hub: Hub, signer: KeySigner | None = None) -> bytes:
    def read(connection: sqlite3.Connection) -> bytes:
        header = header_of(connection, hub.signer, 5)
        return b"" if header is None else b"".join(export(connection, signer or hub.signer, header))

    return await hub.read(read)


@pytest.fixture
async def carrying(world: World) -> AsyncIterator[Carrying]:
    old = await world.hub("old")
    await old.note("common", 5)
    async with old.online():
        await world.until(lambda: old.kinds("epoch.assigned"), "the epoch")
        await old.drained()
    path = await copy_of(old, world.place / "new.db")
    sale = new_id()
    await old.note("only here", 250)
    await old.note("with documents", 1, [document(0), document(1)])
    await old.append(cash(sale, 1250))
    new = await world.hub("new", path=path)
    await ensure_line(new.db, new.signer, new.runtime, LineReason.REPLACED)
    async with new.online():
        await new.drained()
    await world.cloud.replace_line(old.signer.hub_id, old.db.head.line, new.db.head.line)
    app = CloudHttp(world.cloud, OpenBroker(), BrokerPlace("127.0.0.1", 1, tls=False), world.runtime.clock).app()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://cloud") as http:
        yield Carrying(world, old, http, sale)


async def test_what_was_carried_is_in_the_cloud_and_nothing_is_doubled(carrying: Carrying) -> None:
    world, old = carrying.world, carrying.old
    before = await carrying.counted()
    file = await exported(old)
    answer = await carrying.carry(file)
    assert answer.status_code == 200, answer.text
    taken: dict[str, Any] = answer.json()
    assert (taken["entries"], taken["new"], taken["documents"]) == (252, 252, 1)
    assert taken["upto_seq"] == old.db.head.seq
    assert await world.holds(old)
    assert await carrying.counted() == before + 252
    assert [len(one or b"") for one in await carrying.documents()] == [LARGE, LARGE]
    await world.until(carrying.sold, "the sale to be interpreted")
    assert await carrying.sold() == (1250, 1)
    again = (await carrying.carry(file)).json()
    assert (again["entries"], again["new"]) == (252, 0)
    async with old.online():
        await old.drained()
    assert await carrying.sold() == (1250, 1)
    # The new hub is given to read what it had not known; nothing is a fork.
    assert set(await world.incidents(old)) == {"forgotten"}
    assert await exported(old) == b"", "the cloud has confirmed everything: there is nothing to carry"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda file: file[:-1], "carried.damaged"),
        (lambda file: file[: len(file) // 2], "carried.damaged"),
        (lambda file: file[:-500] + bytes([file[-500] ^ 1]) + file[-499:], "carried.not_signed"),
        (lambda file: file.replace(b'"tenant":"t1"', b'"tenant":"t2"'), "carried.unknown_hub"),
        (lambda file: b"x" + file, "carried.damaged"),
        (lambda _: b"", "carried.damaged"),
        (lambda _: MAGIC + b"{}\n", "carried.damaged"),
        (lambda _: MAGIC + b" " * 5000, "carried.damaged"),
        (lambda file: file[: file.index(b"\n", len(MAGIC)) + 1] + b"\xff" * 8, "carried.damaged"),
        (lambda file: file[: file.index(b"\n", len(MAGIC)) + 1], "carried.damaged"),
    ],
    ids=["cut", "half", "changed", "tenant", "front", "empty", "no header", "endless", "length", "no entries"],
)
async def test_a_spoiled_file_is_refused_and_the_whole_one_is_still_taken(
    carrying: Carrying, spoil: Any, code: str
) -> None:
    file = await exported(carrying.old)
    answer = await carrying.carry(spoil(file))
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert (await carrying.carry(file)).status_code == 200
    assert await carrying.world.holds(carrying.old)


async def test_only_the_hub_s_own_key_speaks_for_its_entries(carrying: Carrying) -> None:
    before = await carrying.counted()
    answer = await carrying.carry(await exported(carrying.old, KeySigner(b"9" * 32)))
    assert answer.json()["code"] == "carried.not_signed"
    assert await carrying.counted() == before


async def test_a_later_export_alone_leaves_a_gap_that_is_named(carrying: Carrying) -> None:
    first = await exported(carrying.old)
    unpacker = Unpacker()
    frames = unpacker.feed(first)
    start = first.index(b"\n", len(MAGIC)) + 1
    later = first[:start] + first[start + 4 + len(frames[0]) :]
    answer = await carrying.carry(later)
    assert (answer.status_code, answer.json()["code"]) == (409, "carried.gap")


async def test_a_hub_of_no_cloud_has_nobody_to_carry_to(carrying: Carrying) -> None:
    await carrying.old.db.write("test.unenrol", lambda tx: tx.execute("DELETE FROM enrolment"))
    with pytest.raises(HubError, match=r"carried\.not_enrolled"):
        await exported(carrying.old)


def test_a_file_may_arrive_byte_by_byte() -> None:
    file = MAGIC + b'{"hub":"","tenant":"","from_seq":1,"upto_seq":1,"upto_hash":"","made_at_us":0}\n'
    unpacker, frames = Unpacker(), list[bytes]()
    for byte in file + b"\0\0\0\3abc" + b"\0\0\0\1d":
        frames += unpacker.feed(bytes([byte]))
    assert frames == [b"abc", b"d"]
    assert unpacker.complete
