"""Thirty devices on one hub, one of which talks without end: what the others, the page and the tills notice of it.

Run by `python -m bench.devices [--full] [--record]`; quick measures for minutes, full for half an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.command import Options, main
from bench.depth import fill
from bench.device_bank import DEVICES, NETWORK, SOCKET, serial_addresses
from bench.machine import BenchError, child, cpu_seconds, directory, free_port, resident_mb
from bench.measure import Report, Target, at_most, percentile, table
from bench.shop import shop, till_token
from bench.start import SETTLE_S, compiled, first_200, rest
from bench.whole_hub import WholeHub, devices_ready, install
from drivers.runner import BABBLE_SHOWN_S, REOPEN_MAX_S
from hubd.model.ids import uuid7

BABBLERS = {"serial_scanner": "a scanner", "zvt": "a card terminal", "escpos": "a printer"}
"""Which device babbles in turn, by its driver."""
ENTRIES = 1_000
PAGES, LISTS, CASH, CARD = "status page", "list of devices", "cash payment", "card payment"
PAUSES_S = {PAGES: 0.05, LISTS: 0.05, CASH: 0.03, CARD: 0.1}
"""Between two requests of one kind: a busy shop, and no more than the machine can do beside the measuring."""
PAYMENT_S_MAX = 30.0
LOOK_S = 0.01
SHOWN_S_MAX = 60.0
RATIO_MAX, IDLE_PERCENT_MAX, GROWN_MB_MAX, ADDED_PERCENT_MAX = 1.5, 2.0, 4.0, 5.0
RECOVERED_S_MAX = BABBLE_SHOWN_S + REOPEN_MAX_S
DEVICE = """
[[terminals]]
address = "{address}"
driver = "{driver}"
name = "{name}"
"""


class Caller:
    """One kept-alive connection of a till."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, till: int) -> None:
        self._reader, self._writer = reader, writer
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {till_token(till)}\r\n"

    async def ask(self, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
        """The body of the answer. Raises BenchError for one that is not good."""
        content = b"" if body is None else json.dumps(body).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + content)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].split(b"\r\n")[0])
        found = await self._reader.readexactly(length)
        if not answer.startswith(b"http/1.1 2"):
            raise BenchError(f"{method} {path}: {answer.splitlines()[0].decode()} {found[:500].decode()}")
        return found

    async def pay(self, till: int, terminal: str = "") -> None:
        """One payment, to its end; where a terminal is named by card."""
        id_ = uuid7(time.time_ns() // 1_000_000, till.to_bytes(2, "big") + time.time_ns().to_bytes(8, "big"))
        how = {"tender": "card", "terminal": terminal} if terminal else {"tender": "cash"}
        answer = await self.ask("PUT", f"/v1/payments/{id_}", {"amount": {"amount": 1250, "currency": "EUR"}, **how})
        deadline = time.monotonic() + PAYMENT_S_MAX
        while (outcome := json.loads(answer)["state"]) not in ("approved", "unknown", "declined"):
            if time.monotonic() > deadline:
                raise BenchError(f"a payment was {outcome} after {PAYMENT_S_MAX:.0f} s")
            await asyncio.sleep(LOOK_S)
            answer = await self.ask("GET", f"/v1/payments/{id_}")
        if outcome != "approved":
            raise BenchError(f"a payment is {outcome}")


@dataclass
class Seen:
    """What was measured in one condition, over all its rounds."""

    waits: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: float = 0.0
    took_s: float = 0.0
    grown_mb: list[float] = field(default_factory=list)

    @property
    def percent(self) -> float:
        return self.cpu_s / self.took_s * 100

    def ms(self, kind: str, share: float) -> float:
        return percentile(self.waits[kind], share) * 1e3


class Bank:
    """Tells the simulators' process which device babbles."""

    def __init__(self, place: Path) -> None:
        self._place = place

    async def tell(self, *words: str) -> None:
        reader, writer = await asyncio.open_unix_connection(self._place / SOCKET)
        writer.write(" ".join(words).encode() + b"\n")
        if await reader.readline() != b"done\n":
            raise BenchError("the simulated devices do not listen")
        writer.close()


@dataclass
class Rig:
    """The hub with its devices, and those who call it."""

    hub: WholeHub
    pid: int
    bank: Bank
    addresses: list[str]
    """Of all devices, as in `DEVICES`."""
    terminals: list[str]
    """Card terminals that never babble."""

    async def load(self, seen: Seen, seconds: float) -> None:
        """Everybody calls for so long, each on connections of its own."""
        cpu, begun, mb = cpu_seconds(self.pid), time.monotonic(), resident_mb(self.pid)
        stop = begun + seconds
        async with asyncio.TaskGroup() as group:
            for number, kind in enumerate(PAUSES_S):
                group.create_task(self._calls(kind, number * 8, seen.waits.setdefault(kind, []), stop))
        seen.cpu_s += cpu_seconds(self.pid) - cpu
        seen.took_s += time.monotonic() - begun
        seen.grown_mb.append(resident_mb(self.pid) - mb)

    async def _calls(self, kind: str, first_till: int, waits: list[float], stop: float) -> None:
        streams = await asyncio.open_connection("127.0.0.1", self.hub.http_port)
        caller, count = Caller(*streams, first_till), 0
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            PAGES: lambda: caller.ask("GET", "/"),
            LISTS: lambda: caller.ask("GET", "/v1/devices"),
            CASH: lambda: caller.pay(first_till),
            CARD: lambda: caller.pay(first_till, self.terminals[count % len(self.terminals)]),
        }
        while (begun := time.monotonic()) < stop:
            await acts[kind]()
            waits.append(time.monotonic() - begun)
            count += 1
            await asyncio.sleep(PAUSES_S[kind])
        streams[1].close()

    async def problem_of(self, name: str) -> str:
        """What the hub shows of a device; empty when all is well."""
        found: list[dict[str, Any]] = (await self.hub.ask("GET", "/v1/devices"))["items"]
        return next((str(one["problem"] or "") for one in found if one["name"] == name), "")


@asynccontextmanager
async def rig(place: Path, entries: int) -> AsyncIterator[Rig]:
    """A daemon with thirty devices, all of them ready."""
    async with shop(place) as made:
        await fill(made, entries)
    ports = [free_port() for _ in NETWORK]
    addresses = [f"tcp://127.0.0.1:{port}" for port in ports] + serial_addresses(place)
    devices = "".join(
        DEVICE.format(address=one, driver=kind, name=_name(number))
        for number, (one, kind) in enumerate(zip(addresses, DEVICES, strict=True))
    )
    hub = install(place, free_port(), free_port(), free_port(), devices=devices)
    bank = [sys.executable, "-m", "bench.device_bank", str(place), *map(str, ports)]
    async with child(bank, output=place / "bank.log"), child(hub.command, output=hub.log) as process:
        await first_200(hub.http_port, time.monotonic())
        ids = await devices_ready(hub, addresses)
        terminals = [ids[one] for one, kind in zip(addresses, DEVICES, strict=True) if kind == "zvt"]
        yield Rig(hub, process.pid, Bank(place), addresses, terminals[1:5])


def _name(number: int) -> str:
    return f"{DEVICES[number]} {number}"


def name_of(kind: str) -> str:
    """What people call the device that babbles for its kind."""
    return _name(DEVICES.index(kind))


@dataclass
class Found:
    """All that was measured."""

    idle_mb: float
    idle_percent: float
    quiet: dict[str, Seen]
    babble: dict[str, Seen]
    problems: dict[str, str]
    recovered_s: float


async def measure(place: Path, *, entries: int, rounds: int, seconds: float, idle_s: float) -> Found:
    """Quiet and babble in turn, so that what else the machine does falls on both."""
    async with rig(place, entries) as made:
        await asyncio.sleep(SETTLE_S)
        idle = await rest(made.pid, idle_s)
        await made.load(Seen(), seconds)  # caches fill
        found = Found(*idle, {}, {}, {}, 0.0)
        for kind in BABBLERS:
            quiet, babble = found.quiet.setdefault(kind, Seen()), found.babble.setdefault(kind, Seen())
            for _ in range(rounds):
                await made.load(quiet, seconds)
                await made.bank.tell("babble", kind)
                await made.load(babble, seconds)
                found.problems[kind] = await made.problem_of(name_of(kind))
                await made.bank.tell("well")
        begun = time.monotonic()
        with contextlib.suppress(BenchError):  # then it took longer than anybody waits
            await devices_ready(made.hub, made.addresses)
        found.recovered_s = time.monotonic() - begun
        return found


async def attempt(place: Path) -> dict[str, str]:
    """The same without measuring: what is shown of each babbler, while every call to the hub is answered as it should.

    Raises BenchError for an answer that is not good, a payment that is not approved, or a babbler that stays unseen.
    """
    shown: dict[str, str] = {}
    async with rig(place, 20) as made:
        for kind in BABBLERS:
            await made.bank.tell("babble", kind)
            deadline = time.monotonic() + SHOWN_S_MAX
            while not (problem := await made.problem_of(name_of(kind))):
                if time.monotonic() > deadline:
                    raise BenchError(f"{kind} babbles and nothing is shown")
                await asyncio.sleep(LOOK_S)
            seen = Seen()
            await made.load(seen, 1.0)
            shown[kind] = problem if all(seen.waits[call] for call in PAUSES_S) else ""
            await made.bank.tell("well")
    return shown


def ratio(found: Found, kind: str, call: str, share: float) -> float:
    return found.babble[kind].ms(call, share) / found.quiet[kind].ms(call, share)


def targets(found: Found) -> list[Target]:
    """What the section promises."""
    made = [at_most(f"CPU at rest, {len(DEVICES)} devices", IDLE_PERCENT_MAX, found.idle_percent, " %")]
    for call in PAUSES_S:
        worst = max(ratio(found, kind, call, 0.99) for kind in BABBLERS)
        made.append(at_most(f"{call}, p99 while one babbles / while none does, worst babbler", RATIO_MAX, worst))
    more = [found.babble[kind].percent - found.quiet[kind].percent for kind in BABBLERS]
    grown = max(mb for kind in BABBLERS for mb in found.babble[kind].grown_mb)
    made.append(at_most("memory that the babble adds, worst round", GROWN_MB_MAX, grown, " MB"))
    made.append(at_most("CPU that the babble adds, worst babbler", ADDED_PERCENT_MAX, max(more), " %"))
    made.append(at_most("well again: until all are ready", RECOVERED_S_MAX, found.recovered_s, " s"))
    return made


def rows(found: Found) -> list[list[object]]:
    made: list[list[object]] = []
    for kind, called in BABBLERS.items():
        for what, seen in (("nobody", found.quiet[kind]), (called, found.babble[kind])):
            cells = [f"{seen.ms(call, 0.5):.1f} / {seen.ms(call, 0.99):.1f}" for call in PAUSES_S]
            made.append([what, *cells, seen.percent, max(seen.grown_mb)])
    return made


def report(options: Options) -> Report:
    compiled()
    rounds, seconds = options.rounds(4, 60), options.seconds(4, 8)
    with directory() as place:
        found = asyncio.run(
            measure(place, entries=ENTRIES, rounds=rounds, seconds=seconds, idle_s=options.seconds(70, 300))
        )
    kinds = {kind: DEVICES.count(kind) for kind in dict.fromkeys(DEVICES)}
    shown = "; ".join(f"{BABBLERS[kind]}: {problem or 'nothing'}" for kind, problem in found.problems.items())
    text = (
        f"The daemon as installed, on a store of {ENTRIES:,} entries, with {len(DEVICES)} simulated devices in a "
        "process of their own, all ready: "
        + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        + "; terminals and printers on TCP, the others on pseudo-terminals. At rest "
        f"{found.idle_percent:.2f} % of a core and {found.idle_mb:.0f} MB. Then pages, lists and payments go on "
        "without a break on four connections, and one device says as fast as its line takes it, in turn, what has no "
        "end (scanner), what means nothing (terminal) and a status that nobody has asked for (printer): "
        f"{rounds} rounds of {seconds:.0f} s each, every one behind a quiet one. A pseudo-terminal has no baud rate: "
        f"it takes what the hub reads. The hub showed of them: {shown}.\n\n"
    )
    calls = [f"{call}, p50 / p99 ms" for call in PAUSES_S]
    head = ("who babbles", *calls, "hub's CPU, % of a core", "memory grown, MB")
    return Report("devices", "One device that babbles", text + table(head, rows(found)), tuple(targets(found)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["attempt"]:  # what a test of this bench runs
        print(json.dumps(asyncio.run(attempt(Path(sys.argv[2])))))
    else:
        main(report)
