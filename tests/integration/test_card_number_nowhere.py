"""A test card number is fed into every driver at every field, and then looked for wherever a hub keeps or says a thing.

Looked at are the files of the data directory while the hub trades (database, log of the database, keys, backups), each
row of the database, what the process has printed (the journal's lines, at debug), everything that the API and the page
answer, every trace, the bug report, the journal as it is told, and what a restore brings out of a sealed backup.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from drivers.registry import BUILT_IN, read_manifest
from hubd.model.device import Capability, DeviceKind
from hubd.model.ipp import Group, Message, Tag, attribute, decode, encode
from local_api.client import new_id
from local_api.page.app import page_rows
from tests.crash.store import OWNER_PIN, RUNNING, STEP_TIMEOUT_S, Nursery
from tests.integration.leaking_store import HERE, KINDS, NUMBERS, Leak, LeakingStore, leaking_store
from tests.rigs.card_search import CardSearch, text_of_json
from tests.rigs.process import wait_until
from tests.tidy.tree import ROOT

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.blocking_allowed("it reads what a hub has left on its disk, in no loop of the hub"),
]
SEARCH = CardSearch(NUMBERS)
EAN = "4006381333931"
MANIFESTS = {manifest.id: manifest for manifest in map(read_manifest, BUILT_IN)}
ON_CARDS = (*NUMBERS, *(f";{one}=29121010000?" for one in NUMBERS), *(f"%B{one}^A/B^2912101?" for one in NUMBERS))
"""What a scanner that reads cards says."""
ACTS = ("test", "identify", "diagnose", "end-of-day", "parameter-session", "tms-contact")
STREAMS = ("/v1/events", "/v1/events/ws", "/v1/scans", "/v1/scales/{id}/weight", "/v1/backups/{id}/content")
"""Asked for elsewhere in this test, or sealed."""
OF_A_PERSON = ("/static/{name}", "/second-factor", "/set-up", "/join", "/language", "/sign-in", "/news")
"""Pages with nothing of a device in them, or that are part of others."""
TRACE_LINES_MIN, EVENTS_MIN = 2, 40


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Starts the hub and the simulators."""
    with Nursery() as started:
        yield started


def test_every_driver_has_a_device_that_leaks() -> None:
    """A new driver is fed the number too, or this fails."""
    assert set(KINDS) == set(MANIFESTS)


# -- the number goes in ------------------------------------------------------------------------------------------------


async def pay(opened: LeakingStore, leak: Leak, amount: int) -> tuple[str, str]:
    """Take a payment: its id, and its state in the end."""
    payment = new_id()
    wanted = {"amount": {"amount": amount, "currency": "EUR"}, "terminal": leak.device}
    status, said = await opened.ask("PUT", f"/v1/payments/{payment}", wanted)
    assert status < 300, (leak.driver_id, said)
    return payment, await ended(opened, leak, payment)


async def ended(opened: LeakingStore, leak: Leak, payment: str) -> str:
    """The state of a payment once nothing runs any more; of a lost answer, once the terminal was asked if it can be."""
    running = RUNNING | ({"unknown"} if Capability.QUERY_LAST in MANIFESTS[leak.driver_id].capabilities else set())

    async def state() -> str:
        _, shown = await opened.ask("GET", f"/v1/payments/{payment}", Prefer="wait=5")
        return "" if shown["state"] in running else str(shown["state"])

    return await wait_until(state, STEP_TIMEOUT_S, f"the end of a payment by {leak.driver_id}", interval_s=0.1)


async def use_terminal(opened: LeakingStore, leak: Leak) -> None:
    """Payments that are approved, declined, reversed and lost, and all else that a terminal can be asked for."""
    manifest, states = MANIFESTS[leak.driver_id], list[str]()
    for number in NUMBERS:
        await leak.leak(number)
        opened.paid[leak.driver_id], state = await pay(opened, leak, 2040)
        states.append(state)
    payment = opened.paid[leak.driver_id]
    if Capability.REVERSE in manifest.capabilities:
        status, said = await opened.ask("POST", f"/v1/payments/{payment}/reverse")
        assert status < 300, (leak.driver_id, said)
        assert await ended(opened, leak, payment) == "reversed", leak.driver_id
    states += [(await pay(opened, leak, 1005))[1]]
    for act in ACTS:
        await opened.ask("POST", f"/v1/devices/{leak.device}/{act}")
    states += [(await pay(opened, leak, 1013))[1]]
    lost = "approved" if Capability.QUERY_LAST in manifest.capabilities else "unknown"
    assert states == ["approved"] * 3 + ["declined", lost], leak.driver_id


async def named(leak: Leak, number: str, ask: Callable[[], Awaitable[object]] | None = None) -> None:
    """Wait until the device has named the number; `ask`: what makes it speak, as often as it takes."""
    search = CardSearch([number])

    async def said() -> bool:
        if ask is not None:
            await ask()
        return any(search.found(one) for one in await leak.said())

    await wait_until(said, STEP_TIMEOUT_S, f"a number of {leak.driver_id}", interval_s=0.2)


async def no_weight(opened: LeakingStore, leak: Leak) -> None:
    """A scale that names a card tells no weight."""
    status, said = await opened.ask("GET", f"/v1/scales/{leak.device}/weight")
    assert status >= 400 or said["grams"] is None, (leak.driver_id, said)


async def use_scale(opened: LeakingStore, leak: Leak) -> None:
    """Weights, each asked for while the scale names a card."""
    for number in NUMBERS:
        await leak.leak(number)
        await named(leak, number, lambda: no_weight(opened, leak))
    await leak.leak("")
    await opened.ask("GET", f"/v1/scales/{leak.device}/weight")


async def use_modem(opened: LeakingStore, leak: Leak) -> None:
    """Messages that come in, and what the modem tells when it is asked how it is."""
    for number in NUMBERS:
        await leak.leak(number)
        await leak.tell(cmd="incoming", number="+33612345678", text=f"kaart {number}")
        await opened.ask("POST", f"/v1/devices/{leak.device}/test")
        await named(leak, number)


async def use_scanner(opened: LeakingStore, leak: Leak, heard: list[str]) -> None:
    """Cards in every form; a bar code before and after them is heard."""

    async def heard_again() -> bool:
        before = len(heard)
        await leak.tell(cmd="scan", text=EAN, symbology="ean13")
        try:
            await wait_until(lambda: len(heard) > before, 2.0, "a scan")
        except AssertionError:
            return False
        return True

    await leak.leak(NUMBERS[0])
    await wait_until(heard_again, STEP_TIMEOUT_S, f"a bar code by {leak.driver_id}")
    for text in ON_CARDS:
        for symbology in ("code128", "qr"):
            await leak.tell(cmd="scan", text=text, symbology=symbology)
    await wait_until(heard_again, STEP_TIMEOUT_S, f"a bar code by {leak.driver_id}")


async def use_printer(opened: LeakingStore, leak: Leak, payment: str) -> None:
    """Receipts, and papers that a till must not print, on a printer that names cards in what it says."""
    for number in NUMBERS:
        await leak.leak(number)
        receipt = {"receipt": {"payment": payment}, "printer": leak.device}
        status, said = await opened.ask("PUT", f"/v1/print-jobs/{new_id()}", receipt)
        assert status < 300, said
        for text in (number, f"kaart {number[:4]} {number[4:8]} {number[8:]}"):
            paper = {"title": "Paper", "items": [{"type": "text", "text": text}]}
            status, said = await opened.ask("PUT", f"/v1/print-jobs/{new_id()}", {"document": paper})
            assert (status, said["code"]) == (422, "card_data_refused"), said
        await opened.ask("POST", f"/v1/devices/{leak.device}/identify")
        await opened.ask("POST", f"/v1/devices/{leak.device}/test")
        await named(leak, number)


@asynccontextmanager
async def scans(opened: LeakingStore) -> AsyncIterator[list[str]]:
    """What tills hear of the scanners, line by line."""
    heard: list[str] = []

    async def listen(answer: httpx2.Response) -> None:
        async for line in answer.aiter_lines():
            opened.answers.append(("scans", line.encode()))
            if EAN in line:
                heard.append(line)

    async with (
        opened.store.administrator(STEP_TIMEOUT_S) as client,
        client.stream("GET", "/v1/scans", timeout=None) as answer,
        asyncio.TaskGroup() as group,
    ):
        listening = group.create_task(listen(answer))
        yield heard
        listening.cancel()


def spool_raw(port: int, number: str) -> None:
    """A till prints a card over the raw port, as text and in commands."""
    for job in (f"{number}\n".encode() + b"\x1dV\0", b"\x1dk\x49\x12" + number.encode() + b"\n\x1dV\0"):
        with socket.create_connection((HERE, port), timeout=STEP_TIMEOUT_S) as line:
            try:
                line.sendall(job)
                line.shutdown(socket.SHUT_WR)
                line.recv(1)
            except ConnectionError:
                continue  # the refusal is a reset


async def spool_ipp(opened: LeakingStore, number: str) -> None:
    """A till prints a card by IPP, in the document and in every name that goes along."""
    uri = f"http://{HERE}:{opened.ipp_port}/ipp/print/till"
    head = (
        attribute("attributes-charset", Tag.CHARSET, "utf-8"),
        attribute("attributes-natural-language", Tag.LANGUAGE, "en"),
        attribute("printer-uri", Tag.URI, uri.replace("http", "ipp")),
        attribute("requesting-user-name", Tag.NAME, number),
        attribute("job-name", Tag.NAME, f"kaart {number}"),
        attribute("document-name", Tag.NAME, number),
        attribute("document-format", Tag.MIME, "text/plain"),
    )
    for document, is_taken in ((f"kaart {number}\n", False), ("Bonjour\n", True)):
        request = encode(Message((1, 1), 0x0002, 1, (Group(Tag.OPERATION, head),), document.encode()))
        async with httpx2.AsyncClient(trust_env=False) as till:
            answer = await till.post(uri, content=request, headers={"content-type": "application/ipp"})
        assert (decode(answer.content).code == 0) is is_taken, document
        opened.answers.append(("ipp", answer.content))


async def use_everything(opened: LeakingStore) -> None:
    """Every device does what it is for while it leaks."""
    of_kind = {
        kind: [one for one in opened.leaks.values() if MANIFESTS[one.driver_id].kind is kind] for kind in DeviceKind
    }
    async with scans(opened) as heard, asyncio.TaskGroup() as group:
        for leak in of_kind[DeviceKind.TERMINAL]:
            group.create_task(use_terminal(opened, leak))
        for leak in of_kind[DeviceKind.SCALE]:
            group.create_task(use_scale(opened, leak))
        for leak in of_kind[DeviceKind.MODEM]:
            group.create_task(use_modem(opened, leak))
        for leak in of_kind[DeviceKind.SCANNER]:
            await use_scanner(opened, leak, heard)
    for number in NUMBERS:
        await asyncio.to_thread(spool_raw, opened.raw_port, number)
        await spool_ipp(opened, number)
    scanners = {leak.driver_id for leak in of_kind[DeviceKind.SCANNER]}

    async def told() -> bool:
        shown = await opened.devices()
        return {name for name, one in shown.items() if one["problem"] == "card_data_refused"} == scanners

    await wait_until(told, STEP_TIMEOUT_S, "the problem of each scanner", interval_s=0.2)
    async with asyncio.TaskGroup() as group:
        for leak in of_kind[DeviceKind.PRINTER]:
            group.create_task(use_printer(opened, leak, opened.paid["zvt"]))


async def was_on_the_line(opened: LeakingStore) -> None:
    """Every device has really named the number, so often and, of terminals, in each of its lengths."""
    each = [CardSearch([number]) for number in NUMBERS]
    for leak in opened.leaks.values():
        said = await leak.said()
        told = [one for one in said if SEARCH.found(one)]
        assert len(told) >= leak.kind.messages_min, (leak.driver_id, len(told), len(said))
        for search in each:
            assert any(search.found(one) for one in told), (leak.driver_id, search.numbers)


# -- where it could have come out --------------------------------------------------------------------------------------


async def ask_everything(opened: LeakingStore) -> None:
    """Every GET of the API, about each device, payment and paper."""
    ids = {name: await _ids(opened, f"/v1/{name}") for name in ("devices", "payments", "print-jobs")}
    listed = (ROOT / "tests/contract/api_routes.txt").read_text("ascii").splitlines()
    for path in (line.split()[1] for line in listed if line.startswith("GET ")):
        kind = path.split("/")[2] if path.startswith("/v1/") else ""
        if path in STREAMS or (kind in ("orders", "outages") and "{" in path):
            continue
        if "{key}" in path:
            _, shown = await opened.ask("GET", path.removesuffix("/{key}"))
            wanted = [one["key"] for one in shown["items"]]
        else:
            wanted = ids[kind] if "{id}" in path else [""]
        for one in wanted:
            await opened.ask("GET", path.replace("{id}", one).replace("{key}", one))
    asked = [what for what, _ in opened.answers if what.startswith("GET")]
    assert sum(what.endswith(" 200") for what in asked) > 100, asked


async def _ids(opened: LeakingStore, path: str) -> list[str]:
    _, shown = await opened.ask("GET", path if path == "/v1/devices" else f"{path}?limit=200")
    return [one["id"] for one in shown["items"]]


async def look_at_pages(opened: LeakingStore) -> None:
    """Every page, in a browser with the owner in front of it."""
    base = f"https://{HERE}:{opened.store.https_port}"
    ids = {"devices": await _ids(opened, "/v1/devices"), "payments": list(opened.paid.values())}
    async with httpx2.AsyncClient(verify=False, base_url=base, timeout=STEP_TIMEOUT_S) as browser:
        form = {"name": "Claire", "pin": OWNER_PIN}
        signed_in = await browser.post("/sign-in", data=form, headers={"origin": base, "sec-fetch-site": "same-origin"})
        assert signed_in.status_code == 303, signed_in.text
        browser.headers["cookie"] = signed_in.headers["set-cookie"].partition(";")[0]
        paths = [row.path for row in page_rows() if row.method == "GET" and row.path not in OF_A_PERSON]
        for path in paths:
            wanted = ids.get(path.split("/")[1], []) if "{id}" in path else [""]
            for one in wanted:
                answer = await browser.get(path.replace("{id}", one))
                opened.answers.append((f"page {path} {answer.status_code}", answer.content))
    shown = [what for what, _ in opened.answers if what.startswith("page ") and what.endswith(" 200")]
    assert {"page /devices 200", "page /payments/{id}/receipt.pdf 200", "page /devices/{id}/trace 200"} <= set(shown)


async def follow_journal(opened: LeakingStore) -> None:
    """All entries, read by pages, and as events from the first one on."""
    after, count = 0, 0
    while True:
        status, page = await opened.ask("GET", f"/v1/journal?after={after}")
        assert status == 200, page
        count += len(page["items"])
        after = page["next"]
        if not after:
            break
    assert count > 100
    seen = 0
    async with (
        opened.store.administrator(STEP_TIMEOUT_S) as client,
        client.stream("GET", "/v1/events?after=1") as answer,
    ):
        async for line in answer.aiter_lines():
            opened.answers.append(("events", line.encode()))
            seen += line.startswith("data:")
            if seen >= EVENTS_MIN:
                break


async def run_commands(opened: LeakingStore, nursery: Nursery, out: Path) -> None:
    """What hubctl writes into files: a backup and what it holds, the bug report, a trace."""
    config, restored = opened.store.config, out / "restored.toml"
    _, recovery = await opened.ask("POST", "/v1/recovery-code")  # the first one went with the start before
    assert recovery["code"], recovery
    text = config.read_text("utf-8").replace(f'data = "{opened.store.data}"', f'data = "{out / "restored"}"')
    restored.write_text(
        text.replace(f'runtime = "{opened.store.folder / "run"}"', f'runtime = "{out / "run"}"'), "utf-8"
    )

    def commands() -> None:
        nursery.hubctl(config, "bugreport", "--to", str(out))
        nursery.hubctl(config, "backup", "make", "--to", str(out / "stick"))
        nursery.hubctl(config, "devices", "trace", "zvt", "--save", str(out / "zvt.txt"))
        (sealed,) = (out / "stick").glob("*.hubbackup")
        nursery.hubctl(restored, "restore", str(sealed), "--code", recovery["code"])

    await asyncio.to_thread(commands)


def reached(opened: LeakingStore, out: Path) -> None:
    """What was looked at is what it is taken for: it tells of the payments, and of the cards their last four digits."""
    told = dict[str, list[bytes]]()
    for what, content in opened.answers:
        told.setdefault(re.sub(r"[0-9a-f-]{36}", "{id}", what), []).append(content)
    receipts = b"".join(told["GET /v1/payments/{id}/receipt 200"])
    assert all(number[-4:].encode() in receipts for number in NUMBERS)
    traces = told["GET /v1/devices/{id}/trace 200"]
    assert len(traces) >= len(KINDS)
    assert sum(one.count(b'"text"') >= TRACE_LINES_MIN for one in traces) >= len(KINDS)
    log = opened.store.process.output()
    assert log.count("scanner.card_refused") >= 3 * len(ON_CARDS)
    names = {file.name for file in opened.store.data.rglob("*")}
    assert {"hub.db", "hub.db-wal", "hub.db-shm"} <= names
    for database in (opened.store.database, out / "restored/hub.db"):
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM payments").fetchone()
        assert count == 30, database


async def test_a_card_number_that_every_driver_is_fed_ends_nowhere(nursery: Nursery, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    async with leaking_store(nursery, tmp_path) as opened:
        await use_everything(opened)
        await was_on_the_line(opened)
        await ask_everything(opened)
        await look_at_pages(opened)
        await follow_journal(opened)
        await run_commands(opened, nursery, out)
        await asyncio.to_thread(reached, opened, out)
        found = await asyncio.to_thread(look_everywhere, opened, out)
        assert found == {}


def look_everywhere(opened: LeakingStore, out: Path) -> dict[str, set[str]]:
    """Where a number is, and in which form."""
    found: dict[str, set[str]] = {}
    for folder in (opened.store.folder, out):  # the data directory is in the first one
        found |= SEARCH.found_in_folder(folder)
    log = opened.store.process.output()
    texts: list[tuple[str, Any]] = [("log", log), ("log as it is read", text_of_json(log.encode())), *opened.answers]
    for what, content in texts:
        if seen := SEARCH.found(content):
            found.setdefault(what, set()).update(seen)
    return found
