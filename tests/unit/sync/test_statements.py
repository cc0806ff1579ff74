"""Statements: checked with a key alone, recomputed from entries, and compared by the hub; each lie is found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubd.identity import verify_signature
from hubd.model.entry import Draft, Entry
from hubd.model.statement import Verdict, canonical_bytes, verify_statement, verify_with_entries
from hubd.services import statements
from hubd.services.lines import LineReason, ensure_line, next_number
from hubd.store import journal, outages, payments
from hubd.store.tx import Tx
from sync.cloud.cloud import INTERPRETED_A_TURN
from sync.cloud.keys import SigningKey
from tests.unit.sync.shop import cash, forwarded, heard, new_id, outage_closed, outage_opened, payment_body, stored
from tests.unit.sync.world import SIGNING_SEED, Hub, World

KEY = SigningKey.of_seed(SIGNING_SEED)


class Ended:
    """A hub whose outage is over, with its statements and entries."""

    def __init__(self, hub: Hub, outage: str, entries: list[Entry], found: list[outages.StoredStatement]) -> None:
        self.hub, self.outage, self.entries = hub, outage, entries
        self.documents = [statement.document for statement in found]
        self.agreed = [statement.agrees for statement in found]

    @property
    def final(self) -> dict[str, Any]:
        return self.documents[-1]


@pytest.fixture
async def ended(world: World) -> Ended:
    """Cash, a stored payment that is captured, one declined late, a refusal, a training sale; a line opened midway."""
    hub = await world.hub()
    outage, good, late, unknown = (new_id() for _ in range(4))
    await hub.append(cash(new_id(), 111), outage_opened(outage), cash(new_id(), 700, outage=outage))
    await ensure_line(hub.db, hub.signer, hub.runtime, LineReason.REPLACED)
    await hub.append(*stored(good, 1011, outage=outage), *stored(late, 1012, outage=outage))
    body = payment_body(5000, outage=outage)
    await hub.append(Draft("payment.refused", new_id(), "device:till-1", body | {"reason": "limit"}))
    await hub.append(cash(new_id(), 9900, outage=outage, mode="training"))
    await hub.append(Draft("payment.requested", unknown, "device:till-1", body))
    await hub.append(Draft("payment.unknown", unknown, "hub", body), outage_closed(outage))
    async with hub.online():
        await world.until(lambda: hub.kinds("statement.received"), "the provisional statement")
        await hub.append(heard(outage))
        await hub.append(*forwarded(good, 1011, outage=outage), *forwarded(late, 1012, outage=outage))
        await world.until(lambda: hub.kinds("payment.declined_late"), "the late verdict")
        await hub.append(Draft("payment.resolved", unknown, "staff:s1", body | {"manual": "failure"}))
        await world.until(lambda: final_of(hub, outage), "the final statement")
        await hub.drained()
    found = await hub.read(lambda c: outages.statements(c, outage))
    return Ended(hub, outage, await hub.entries(), found)


async def test_outage_whose_end_comes_after_its_payments_has_its_statement(world: World) -> None:
    hub = await world.hub()
    outage = new_id()
    await hub.append(outage_opened(outage), cash(new_id(), 700, outage=outage))
    async with hub.online():
        await hub.drained()
        await hub.append(outage_closed(outage))
        await world.until(lambda: hub.kinds("statement.received"), "the statement")
    found = await hub.read(lambda c: outages.statements(c, outage))
    assert [(one.document["finality"], one.document["payments"]["count"]) for one in found] == [("final", 1)]


async def test_what_joined_an_outage_when_it_was_declared_is_counted_by_both_sides(world: World) -> None:
    hub = await world.hub()
    outage, sold, card = new_id(), new_id(), new_id()
    body = payment_body(900, terminal="term-1")
    steps = ("requested", "started", "approved", "reversal_requested")
    await hub.append(cash(sold, 500), *(Draft(f"payment.{step}", card, "hub", body) for step in steps))
    joined = {"outage": outage, "state": "reversal_pending", "before_reversal": "approved"}
    await hub.append(
        outage_opened(outage),
        Draft("payment.joined_outage", sold, "hub", payment_body(500, tender="cash", outage=outage, state="approved")),
        Draft("payment.joined_outage", card, "hub", body | joined),
        Draft("payment.reversal_failed", card, "hub", body | {"outage": outage, "reason": "refused"}),
        outage_closed(outage),
    )
    async with hub.online():
        await world.until(lambda: hub.kinds("statement.received"), "the provisional statement")
        await hub.append(heard(outage))
        await world.until(lambda: final_of(hub, outage), "the final statement")
    found = await hub.read(lambda c: outages.statements(c, outage))
    assert [one.document["unheard"] for one in found] == [["term-1"], []]
    assert all(one.agrees for one in found)
    (totals,) = found[-1].document["totals"]
    assert {name: bucket["count"] for name, bucket in totals["buckets"].items() if bucket["count"]} == {
        "taken": 2,
        "cash": 1,
        "card": 1,
    }
    assert verify_with_entries(found[-1].document, await hub.entries()).ok


@pytest.mark.parametrize(("manual", "bucket", "taken"), [("success", "card", 1), ("failure", "resolved_failure", 0)])
async def test_reversal_that_a_person_decides_ends_the_wait(world: World, manual: str, bucket: str, taken: int) -> None:
    hub = await world.hub()
    outage, payment = new_id(), new_id()
    body = payment_body(1250, outage=outage)
    await hub.append(outage_opened(outage), Draft("payment.requested", payment, "device:till-1", body))
    await hub.append(Draft("payment.started", payment, "hub", body), Draft("payment.approved", payment, "hub", body))
    await hub.append(Draft("payment.reversal_requested", payment, "staff:s1", body))
    await hub.append(outage_closed(outage), heard(outage))
    async with hub.online():
        await world.until(lambda: hub.kinds("statement.received"), "the provisional statement")
        await hub.append(Draft("payment.resolved", payment, "staff:s1", body | {"manual": manual}))
        await world.until(lambda: final_of(hub, outage), "the final statement")
    found = await hub.read(lambda c: outages.statements(c, outage))
    (total,) = found[-1].document["totals"]
    assert [one.agrees for one in found] == [True, True]
    assert total["buckets"][bucket] == {"count": 1, "total": 1250}
    assert total["buckets"]["taken"]["count"] == taken
    assert verify_with_entries(found[-1].document, await hub.entries()).ok


@pytest.mark.parametrize(("manual", "taken"), [("success", 1), ("failure", 0)])
async def test_what_a_gone_terminal_holds_and_a_person_decides_ends_the_wait(
    world: World, manual: str, taken: int
) -> None:
    hub = await world.hub()
    outage, payment = new_id(), new_id()
    body = payment_body(1250, outage=outage, custody="held")
    await hub.append(outage_opened(outage), *stored(payment, 1250, outage=outage), outage_closed(outage))
    async with hub.online():
        await world.until(lambda: hub.kinds("statement.received"), "the provisional statement")
        await hub.append(Draft("payment.resolved", payment, "staff:s1", body | {"manual": manual}))
        await hub.append(Draft("outage.terminal_closed", outage, "staff:s1", {"terminal": "term-1"}))
        await world.until(lambda: final_of(hub, outage), "the final statement")
    found = await hub.read(lambda c: outages.statements(c, outage))
    (total,) = found[-1].document["totals"]
    assert all(one.agrees for one in found)
    assert total["buckets"][f"resolved_{manual}"] == {"count": 1, "total": 1250}
    assert total["buckets"]["stored"] == {"count": 0, "total": 0}
    assert total["buckets"]["taken"] == {"count": taken, "total": 1250 * taken}
    assert verify_with_entries(found[-1].document, await hub.entries()).ok


@pytest.mark.parametrize(("manual", "last", "verdict"), [("success", 12, "declined_late"), ("failure", 11, "captured")])
async def test_a_late_verdict_against_a_persons_word_opens_the_statement_again(
    world: World, manual: str, last: int, verdict: str
) -> None:
    hub = await world.hub()
    outage, payment = new_id(), new_id()
    amount = 1000 + last
    body = payment_body(amount, outage=outage, custody="forwarding")
    await hub.append(outage_opened(outage), *stored(payment, amount, outage=outage), outage_closed(outage))
    await hub.append(heard(outage), *forwarded(payment, amount, outage=outage)[:1])
    async with hub.online():
        await hub.append(Draft("payment.resolved", payment, "staff:s1", body | {"manual": manual}))
        await world.until(lambda: final_of(hub, outage), "the final statement")
        await hub.append(forwarded(payment, amount, outage=outage)[1])
        await world.until(lambda: hub.kinds("payment.conflicted"), "the contradiction")

        async def provisional() -> bool:
            found = await hub.read(lambda c: outages.statements(c, outage))
            return found[-1].finality == "provisional" and found[-1].document["open"] == 1

        await world.until(provisional, "a statement that is open again")
        await hub.append(Draft("payment.resolved", payment, "staff:s1", body | {"manual": "success"}))
        await world.until(lambda: final_of(hub, outage), "the final statement")
        await hub.drained()
    row = await hub.read(lambda c: payments.get(c, payment))
    assert row is not None
    assert (row.state, row.custody, row.reason) == ("conflict", verdict, "contradicts_decision")
    assert row.manual == "success"
    found = await hub.read(lambda c: outages.statements(c, outage))
    assert [one.agrees for one in found] == [True] * len(found)
    (total,) = found[-1].document["totals"]
    assert total["buckets"]["resolved_success"] == {"count": 1, "total": amount}


async def final_of(hub: Hub, outage: str) -> bool:
    found = await hub.read(lambda c: outages.statements(c, outage))
    return bool(found) and found[-1].finality == "final"


def check(document: dict[str, Any]) -> Verdict:
    return verify_statement(document, KEY.public_key, verify_signature)


async def test_statement_counts_what_happened_and_names_what_it_replaces(ended: Ended) -> None:
    assert [document["finality"] for document in ended.documents] == ["provisional", "final"]
    assert all(ended.agreed)
    assert ended.documents[0]["open"] == 3
    assert [document["unheard"] for document in ended.documents] == [["term-1"], []]
    assert ended.final["replaces"] == ended.documents[0]["id"]
    (total,) = ended.final["totals"]
    counts = {name: (bucket["count"], bucket["total"]) for name, bucket in total["buckets"].items()}
    assert counts["cash"] == (1, 700)
    assert counts["captured"] == (1, 1011)
    assert counts["declined_late"] == (1, 1012)
    assert counts["resolved_failure"] == (1, 5000)
    assert counts["refused"] == (1, 5000)
    assert counts["taken"] == (2, 1711)
    assert counts["stored"] == counts["processing"] == counts["unknown"] == (0, 0)
    assert ended.final["payments"]["count"] == 6
    assert (ended.final["lost"], ended.final["doubled"], ended.final["open"]) == (0, 0, 0)
    assert len(ended.final["ranges"]) == 2, "one range for each line of the outage"


async def test_anybody_can_check_a_statement_with_a_key_and_with_the_entries(ended: Ended) -> None:
    for document in ended.documents:
        assert check(document).ok
        verdict = verify_with_entries(document, ended.entries)
        assert verdict.ok, verdict.reasons
        assert verdict.payments == 6


def lie(document: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    """The same statement with one value changed, signed by the cloud all the same."""
    changed: dict[str, Any] = json.loads(json.dumps(document))
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    changed["signature"] = KEY.sign(canonical_bytes(changed)).hex()
    return changed


LIES: list[tuple[tuple[Any, ...], Any]] = [
    (("totals", 0, "buckets", "taken", "total"), 1712),
    (("totals", 0, "buckets", "captured", "count"), 2),
    (("payments", "count"), 5),
    (("payments", "ids_sha256"), "00" * 32),
    (("ranges", 0, "hash"), "00" * 32),
    (("ranges", 1, "upto_seq"), 9_999),
    (("open",), 1),
    (("unheard",), ["term-1"]),
    (("doubled",), 1),
]


async def test_every_lie_is_found_by_signature_by_entries_and_by_the_hub(ended: Ended) -> None:
    for path, value in LIES:
        false = lie(ended.final, *path, value=value)
        unsigned = false | {"signature": ended.final["signature"]}
        assert not check(unsigned).ok, path
        assert not verify_with_entries(false, ended.entries).ok, path
        assert not (await compared(ended.hub, false)).agrees, path
    assert not verify_statement(ended.final, bytes(32), verify_signature).ok
    assert not check({"signature": "zz"}).ok
    assert not verify_with_entries(ended.final, ended.entries[:-20]).ok


async def test_verdicts_that_the_statement_knew_count_though_their_entries_come_later(world: World) -> None:
    hub = await world.hub()
    outage, payment = new_id(), new_id()
    sale = stored(payment, 1011, outage=outage)
    await hub.append(outage_opened(outage), *sale, outage_closed(outage), heard(outage))
    await hub.append(*forwarded(payment, 1011, outage=outage))
    async with hub.online():
        await world.until(lambda: final_of(hub, outage), "the final statement")
        await hub.drained()
    final = (await hub.read(lambda c: outages.statements(c, outage)))[-1]
    entries = await hub.entries()
    captured = next(entry for entry in entries if entry.kind == "payment.captured")
    assert captured.seq > final.document["ranges"][0]["upto_seq"]
    assert final.agrees
    assert verify_with_entries(final.document, entries).ok
    assert not verify_with_entries(lie(final.document, "verdicts", value=[]), entries).ok


async def test_statement_made_in_the_middle_of_a_backlog_covers_what_is_understood_and_no_more(world: World) -> None:
    """The payment moves on in entries that are stored with the outage's end, and interpreted some turns later."""
    hub = await world.hub()
    outage, payment = new_id(), new_id()
    async with hub.online():
        await hub.drained()
    await hub.append(outage_opened(outage), *stored(payment, 1011, outage=outage), outage_closed(outage))
    for _ in range(3):
        await hub.append(*(cash(new_id(), 100) for _ in range(INTERPRETED_A_TURN)))
    await hub.append(*forwarded(payment, 1011, outage=outage), heard(outage))
    async with hub.online():
        await world.until(lambda: final_of(hub, outage), "the final statement")
    found = await hub.read(lambda c: outages.statements(c, outage))
    assert len(found) > 1, "one was made before everything was interpreted"
    for statement in found:
        assert statement.agrees
        assert verify_with_entries(statement.document, await hub.entries()).ok


@pytest.mark.parametrize("sales", [0, 1])
async def test_the_end_of_an_outage_alone_is_enough_for_a_statement(world: World, sales: int) -> None:
    hub = await world.hub()
    outage = new_id()
    async with hub.online():
        await hub.append(outage_opened(outage), *(cash(new_id(), 700, outage=outage) for _ in range(sales)))
        await hub.drained()
        await hub.append(outage_closed(outage))
        await world.until(lambda: final_of(hub, outage), "the final statement")
    (found,) = await hub.read(lambda c: outages.statements(c, outage))
    assert found.agrees
    assert found.document["payments"]["count"] == sales


async def compared(hub: Hub, document: dict[str, Any]) -> statements.Comparison:
    return await hub.read(lambda connection: statements.compare(connection, document))


async def test_final_statement_with_open_payments_or_unheard_terminals_contradicts_itself(ended: Ended) -> None:
    assert not check(lie(ended.final, "open", value=2)).ok
    assert not check(lie(ended.final, "unheard", value=["term-1"])).ok


async def test_statement_waits_for_every_terminal_that_was_used_and_names_it(world: World) -> None:
    """Nothing is open, yet three terminals were used: one is heard, one is closed, used again and closed for good."""
    hub = await world.hub()
    outage, other = new_id(), new_id()

    def sale(terminal: str, event: str, **more: Any) -> list[Draft]:
        body, payment = payment_body(1000, outage=outage, terminal=terminal, **more), new_id()
        return [Draft(f"payment.{name}", payment, "hub", body) for name in ("requested", "started", event)]

    def closed(terminal: str) -> Draft:
        return Draft("outage.terminal_closed", outage, "staff:s1", {"terminal": terminal})

    refused = Draft("payment.refused", new_id(), "hub", payment_body(9, outage=outage, terminal="not-touched"))
    await hub.append(outage_opened(outage), refused, *sale("practice", "approved", mode="training"))
    await hub.append(*sale("gone", "approved"), closed("gone"), *sale("gone", "declined"), *sale("well", "approved"))
    await hub.append(heard(other, "well"), outage_closed(outage))
    found: list[outages.StoredStatement] = []

    async def told(unheard: list[str]) -> bool:
        found[:] = await hub.read(lambda c: outages.statements(c, outage))
        return bool(found) and found[-1].document["unheard"] == unheard

    async with hub.online():
        await world.until(lambda: told(["gone", "well"]), "a statement that waits for both")
        await hub.append(heard(outage, "well"))
        await world.until(lambda: told(["gone"]), "a statement that waits for one")
        assert {statement.finality for statement in found} == {"provisional"}
        await hub.append(closed("gone"))
        await world.until(lambda: told([]), "the final statement")
        await hub.append(heard(outage, "well"), heard(outage, "not-touched"))
        await hub.drained()
    assert [statement.finality for statement in found] == ["provisional", "provisional", "final"]
    assert len(await hub.read(lambda c: outages.statements(c, outage))) == 3, "what changes nothing is not answered"
    entries = await hub.entries()
    for statement in found:
        assert statement.agrees
        assert statement.document["open"] == 0
        assert verify_with_entries(statement.document, entries).ok


async def test_numbers_are_gapless_in_their_series_and_a_new_line_opens_new_ones(world: World) -> None:
    hub = await world.hub()

    def sell(tx: Tx) -> tuple[str, int]:
        series, counter = next_number(tx, "till-1", "receipt")
        journal.append(tx, cash(new_id(), 100, series=series, counter=counter))
        return series, counter

    first = [await hub.db.write("test.sell", sell) for _ in range(3)]
    assert [counter for _, counter in first] == [1, 2, 3]
    assert len({series for series, _ in first}) == 1
    other = await hub.db.write("test.number", lambda tx: next_number(tx, "till-2", "receipt"))
    assert other[0] != first[0][0]
    await ensure_line(hub.db, hub.signer, hub.runtime, LineReason.RESTORED)
    series, counter = await hub.db.write("test.sell", sell)
    assert counter == 1
    assert series not in {first[0][0], other[0]}
    assert await ensure_line(hub.db, hub.signer, hub.runtime) is None
