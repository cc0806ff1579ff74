"""A store for crash tests: a hub that can be killed, terminals with books of their own, tills that remember.

The hub is a process of its own (`hubd run`), so are the terminals (ZVT simulators with a ledger on disk). The tills
are this process: they speak HTTPS with the shipped client and write down every answer, as tills do.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import httpx2

from local_api.client import Credential, HubClient, HubUnreachableError, Memory, Pairing, PairingCode, new_id
from tests.rigs.process import Child, RigError, free_port, wait_for, wait_until

ROOT = Path(__file__).parents[2]
LOCATION = "018f0000-0000-7000-8000-000000000001"
OWNER = "018f0000-0000-7000-8000-0000000000aa"
OWNER_PIN = "739164"
START_TIMEOUT_S = 60.0
STEP_TIMEOUT_S = 60.0
RUNNING = frozenset({"requested", "in_progress", "reversal_pending"})


class HubProcess(Protocol):
    """A hub that lives and dies."""

    def start(self) -> Any:
        """Start it; returns before it is ready."""
        ...

    @property
    def pid(self) -> int:
        """Of its present life."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        ...

    def kill(self) -> None:
        """SIGKILL, and return when it is gone."""
        ...

    def close(self) -> None:
        """Kill it and remove what it printed from the disk."""
        ...

    def tail(self) -> str:
        """The end of what it printed."""
        ...

    def output(self) -> str:
        """All that it printed, in all its lives."""
        ...


class RealHub(Child):
    """`hubd run`."""

    def __init__(self, config: Path, env: Mapping[str, str] | None = None) -> None:
        program: list[str | Path] = [sys.executable, "-m", "hubd", "run", "--config", config]
        super().__init__(program, cwd=ROOT, env=env, stop_timeout_s=30.0)

    def output(self) -> str:
        """All that it printed."""
        return self.stdout() + self.stderr()


class Nursery:
    """The process that starts hubs quickly; see tests/crash/nursery.py."""

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="hubd-nursery-"))
        self._child = Child([sys.executable, "-m", "tests.crash.nursery", self._place / "socket"], cwd=ROOT)
        self._count = 0

    def __enter__(self) -> Self:
        """Start it and wait until it has imported everything."""
        self._child.start()
        wait_for(self._ready, START_TIMEOUT_S, "the nursery")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, and with it all that it started."""
        self._child.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def _ready(self) -> bool:
        if not self._child.running:
            raise RigError(f"the nursery ended\n{self._child.tail()}")
        return (self._place / "socket").exists()

    def fork(self, program: str, argv: Sequence[str | Path], wrappers: str = "") -> Forked:
        """A process of this program."""
        self._count += 1
        output = self._place / f"{self._count}.out"
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._place / "socket"))
        wanted = {"program": program, "argv": [str(one) for one in argv], "wrappers": wrappers, "output": str(output)}
        connection.sendall(json.dumps(wanted).encode() + b"\n")
        return Forked(connection, output)

    def hubctl(self, config: Path, *argv: str) -> None:
        """Run hubctl to its end; raises with what it printed unless it is content."""
        child = self.fork("hubctl", ["--config", config, *argv])
        code = wait_for(lambda: None if child.returncode is None else (child.returncode,), STEP_TIMEOUT_S, "hubctl")
        assert code[0] == 0, f"hubctl {' '.join(argv)} gave {code[0]}: {child.tail()}"


class Forked:
    """A child of the nursery."""

    def __init__(self, connection: socket.socket, output: Path) -> None:
        self._connection = connection
        self._output = output
        told = b""
        while not told.endswith(b"\n"):  # byte by byte: the next line, about its end, is for later
            told += connection.recv(1)
        self.pid = int(json.loads(told)["pid"])
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        """Exit code, or None while it runs."""
        if self._code is None:
            self._connection.setblocking(False)
            try:
                told = self._connection.recv(100)
            except BlockingIOError:
                return None
            assert told, "the nursery is gone"
            self._code = int(json.loads(told)["code"])
            self._connection.close()
        return self._code

    def kill(self) -> None:
        """SIGKILL, and return when it is gone."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            wait_for(lambda: self.returncode is not None, STEP_TIMEOUT_S, "the end of a killed hub")

    def tail(self) -> str:
        """The end of its output."""
        return self.output()[-4000:]

    def output(self) -> str:
        """All that it printed."""
        return self._output.read_text("utf-8", "replace") if self._output.exists() else ""


class ForkedHub:
    """`hubd run` from the nursery: every start is a new process that a step may kill."""

    def __init__(self, nursery: Nursery, config: Path, wrappers: str) -> None:
        self._nursery, self._config, self._wrappers = nursery, config, wrappers
        self._life: Forked | None = None

    @property
    def _now(self) -> Forked:
        assert self._life is not None, "start the hub first"
        return self._life

    @property
    def pid(self) -> int:
        """See `HubProcess`."""
        return self._now.pid

    @property
    def returncode(self) -> int | None:
        """See `HubProcess`."""
        return self._now.returncode

    def start(self) -> None:
        """See `HubProcess`."""
        self._life = self._nursery.fork("hubd", ["run", "--config", self._config], self._wrappers)

    def kill(self) -> None:
        """See `HubProcess`."""
        if self._life is not None:
            self._life.kill()

    def close(self) -> None:
        """See `HubProcess`."""
        self.kill()

    def tail(self) -> str:
        """See `HubProcess`."""
        return self._now.tail()

    def output(self) -> str:
        """See `HubProcess`."""
        return self._now.output()


class Simulator:
    """A ZVT terminal in a process of its own, with books that survive it."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        self.name = name
        self.port = free_port()
        self.books = folder / f"{name}.jsonl"
        self._control = folder / f"{name}.sock"
        where = ("--tcp", f"127.0.0.1:{self.port}", "--state-file", self.books, "--control", self._control)
        self._child = Child([sys.executable, "-m", "drivers.sim.zvt", *where, *options], cwd=ROOT)

    @property
    def address(self) -> str:
        """Where the hub finds it."""
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; returns when it listens."""
        self._child.start()
        self._child.wait_for_text("address", START_TIMEOUT_S)

    def close(self) -> None:
        """Stop it; the books stay."""
        self._child.close()

    async def tell(self, **request: Any) -> dict[str, Any]:
        """One command of the control socket."""
        reader, writer = await asyncio.open_unix_connection(self._control)
        writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        assert "error" not in answer, answer
        return answer

    def transactions(self) -> list[dict[str, Any]]:
        """The terminal's own books, newest state of each transaction."""
        found: dict[int, dict[str, Any]] = {}
        if self.books.exists():
            for line in self.books.read_text("utf-8").splitlines():
                entry = json.loads(line)
                found[entry["trace"]] = entry
        return list(found.values())

    def charges(self, payment: str) -> list[dict[str, Any]]:
        """Transactions of this payment for which money has moved and not come back."""
        moved = {"approved", "stored", "forwarded"}
        mine = [one for one in self.transactions() if one["reference"] == payment]
        return [one for one in mine if one["kind"] == "payment" and one["state"] in moved]


@dataclass(frozen=True, slots=True)
class Told:
    """A 2xx answer as it reached the till."""

    at: float
    """CLOCK_MONOTONIC of this machine."""
    line: str
    seq: int
    hash: str
    state: str


@dataclass(slots=True)
class Sale:
    """One payment in a till's notebook."""

    payment: str
    amount: int
    request: dict[str, Any]
    till: str
    told: list[Told] = field(default_factory=list)


class Till:
    """A till with the shipped client and a notebook."""

    def __init__(self, name: str, credential: Credential, notes: Path) -> None:
        self.name = name
        self.credential = credential
        self.client = HubClient(credential, Memory(notes))
        self.sales: dict[str, Sale] = {}

    def plan(self, amount: int, tender: str = "card", **more: Any) -> Sale:
        """Write a sale down before anything is sent."""
        sale = Sale(new_id(), amount, {"tender": tender, **more}, self.name)
        self.sales[sale.payment] = sale
        return sale

    def note(self, sale: Sale, shown: dict[str, Any]) -> dict[str, Any]:
        """Write an answer down."""
        accepted = shown["accepted"]
        at = time.monotonic()  # noqa: TID251 - compared with the moment of a power cut on this machine
        sale.told.append(Told(at, accepted["line"], accepted["seq"], accepted["hash"], shown["state"]))
        return shown

    async def pay(self, sale: Sale) -> dict[str, Any]:
        """Send it until there is an answer, as the client does; then until the hub is back."""
        while True:
            try:
                return self.note(sale, await self.client.pay(sale.payment, sale.amount, "EUR", **sale.request))
            except HubUnreachableError:
                continue

    async def read(self, sale: Sale) -> dict[str, Any]:
        """The payment as it is now."""
        return self.note(sale, await self.client.get(f"/v1/payments/{sale.payment}"))

    async def settled(self, sale: Sale, timeout_s: float = STEP_TIMEOUT_S, *, unknown: bool = False) -> dict[str, Any]:
        """The payment once nothing runs any more; with `unknown`, that counts as an end too."""

        async def done() -> dict[str, Any] | None:
            try:
                shown = await self.read(sale)
            except HubUnreachableError:
                return None
            ended = shown["state"] not in RUNNING and (unknown or shown["state"] != "unknown")
            return shown if ended else None

        return await wait_until(done, timeout_s, f"the end of {sale}")

    async def close(self) -> None:
        """Close its connections; the notebook stays."""
        await self.client.__aexit__(None, None, None)


class Internet:
    """What the hub's probe looks at: a port that answers, or not. The kernel takes the connections."""

    def __init__(self) -> None:
        self.port = free_port()
        self._listening: socket.socket | None = None

    def up(self) -> None:
        """Answer."""
        if self._listening is None:
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self.port))
            listening.listen(4096)
            self._listening = listening

    def down(self) -> None:
        """Refuse."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None


class Store:
    """Everything together. Made by `open_store`."""

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.config = folder / "hubd.toml"
        self.orders = folder / "orders"
        self.https_port, self.http_port = free_port(), free_port()
        self.internet = Internet()
        self.simulators: list[Simulator] = []
        self.tills: list[Till] = []
        self.terminals: dict[str, str] = {}
        """Simulator's name -> device id."""
        self.hub: HubProcess | None = None
        self.starts = 0

    @property
    def database(self) -> Path:
        """The hub's file."""
        return self.data / "hub.db"

    @property
    def sales(self) -> dict[str, Sale]:
        """All notebooks together."""
        return {payment: sale for till in self.tills for payment, sale in till.sales.items()}

    def write_config(self, more: str = "") -> None:
        """The hub's configuration; everything on this machine."""
        quoted = json.dumps
        self.config.write_text(
            f"[paths]\ndata = {quoted(str(self.data))}\nruntime = {quoted(str(self.folder / 'run'))}\n"
            f"[api]\nhttps_port = {self.https_port}\nhttp_port = {self.http_port}\naddresses = ['127.0.0.1']\n"
            "[discovery]\nmdns = false\n"
            f"[probes]\ngateway = 'tcp://127.0.0.1:{self.internet.port}'\ndns_server = '127.0.0.1:9'\n"
            f"dns_name = 'localhost'\ninternet = ['tcp://127.0.0.1:{self.internet.port}']\n"
            + more
            + "".join(
                f"[[terminals]]\naddress = {quoted(one.address)}\nname = {quoted(one.name)}\n"
                for one in self.simulators
            ),
            "utf-8",
        )

    # -- the hub's life ------------------------------------------------------------------------------------------------

    @property
    def process(self) -> HubProcess:
        """The hub's process."""
        assert self.hub is not None, "the store has no hub yet"
        return self.hub

    def restart_with(self, env: Mapping[str, str]) -> None:
        """The next start is in another environment: the machine was switched off meanwhile."""
        self.process.kill()
        self.process.close()
        self.hub = RealHub(self.config, env=env)

    def kill_at(self, step: str) -> None:
        """The hub dies at this step, counted from now (see tests/crash/doomed.py). Empty: it lives."""
        fresh = self.orders.with_suffix(".new")
        fresh.write_text(step, "ascii")
        fresh.replace(self.orders)

    async def start_hub(self) -> None:
        """Start it and return when it answers."""
        self.process.start()
        await self.answers()

    async def answers(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the hub answers; one that has ended is an error."""

        async def healthy() -> bool:
            if self.process.returncode is not None:
                raise RigError(f"the hub ended with {self.process.returncode}\n{self.process.tail()}")
            try:
                async with self.administrator(2.0) as client:
                    return (await client.get("/healthz")).status_code == 200
            except httpx2.TransportError:
                return False

        await wait_until(healthy, timeout_s, "the hub")
        self.starts += 1

    async def died(self, timeout_s: float = STEP_TIMEOUT_S) -> None:
        """Wait for the hub's end by SIGKILL; another end is an error."""
        await wait_until(lambda: self.process.returncode is not None, timeout_s, "the step at which the hub dies")
        assert self.process.returncode == -signal.SIGKILL, self.process.tail()

    # -- people --------------------------------------------------------------------------------------------------------

    def administrator(self, timeout_s: float = 30.0) -> httpx2.AsyncClient:
        """The machine's administrator at the unix socket."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.folder / "run" / "hubd.sock"))
        return httpx2.AsyncClient(transport=transport, base_url="http://hub", timeout=timeout_s)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request of the administrator; raises unless it is granted."""
        async with self.administrator() as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = await client.request(method, path, json=body, headers=named)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def set_up(self, tills: int) -> None:
        """Owner, location, terminals, offline policy, tills: as a person does it, once."""
        place = {"id": LOCATION, "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        owner = {"id": OWNER, "name": "Claire", "pin": OWNER_PIN, "language": "fr"}
        await self.ask("POST", "/v1/setup", {"owner": owner, "location": place})
        policy = await self.ask("GET", "/v1/policies/terminal")
        value = policy["value"] | {"enabled": True, "limit_per_payment": {"EUR": 100_000_000}}
        await self.ask("PUT", "/v1/policies/terminal", {"value": value}, if_match=f'"{policy["version"]}"')
        for number in range(tills):
            self.tills.append(await self.pair(f"Till {number + 1}"))
        if not self.simulators:
            return
        # The terminals of the configuration are proposed at a start, once there is a location.
        self.process.kill()
        await self.start_hub()
        for device in (await self.ask("GET", "/v1/devices"))["items"]:
            if device["kind"] == "terminal":
                await self.ask("POST", f"/v1/devices/{device['id']}/activate")
                self.terminals[device["name"]] = device["id"]
        await self.terminals_ready()

    async def terminals_ready(self) -> None:
        """Wait until the hub speaks to every terminal."""

        async def ready() -> bool:
            devices = (await self.ask("GET", "/v1/devices"))["items"]
            return all(one["state"] == "ready" for one in devices if one["kind"] == "terminal")

        await wait_until(ready, STEP_TIMEOUT_S, "the terminals")

    async def pair(self, name: str) -> Till:
        """Pair a till by QR, with a person who compares the numbers."""
        opened = await self.ask("POST", "/v1/pairing-codes", {"kind": "till"})
        pairing = Pairing(PairingCode.parse(opened["qr"]), name)

        async def waiting() -> dict[str, Any] | None:
            codes = (await self.ask("GET", "/v1/pairing-codes"))["items"]
            return next((one for one in codes if one["id"] == opened["id"] and one["state"] == "waiting"), None)

        async with asyncio.TaskGroup() as group:
            credential = group.create_task(pairing.complete())
            shown = await wait_until(waiting, STEP_TIMEOUT_S, "the till's code")
            assert shown["number"] == pairing.number, "till and page show different numbers"
            await self.ask("POST", f"/v1/pairing-codes/{opened['id']}/confirm")
        return Till(name, credential.result(), self.folder / f"{name}.json")

    async def decide(self, payment: str) -> str:
        """A manager decides an unknown payment by what the terminals' own books say; returns the word."""
        charged = any(one.charges(payment) for one in self.simulators)
        verdict = "success" if charged else "failure"
        body = {"verdict": verdict, "reason": "Looked at the terminal's journal."}
        await self.ask("POST", f"/v1/payments/{payment}/resolve", body)
        return verdict

    # -- the end -------------------------------------------------------------------------------------------------------

    def hubctl(self, *argv: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run hubctl."""
        command = [sys.executable, "-c", "from hubd.cli import main; main()", "--config", str(self.config), *argv]
        return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=timeout_s, check=False)

    async def close(self) -> None:
        """End everything and remove it."""
        for till in self.tills:
            await till.close()
        if self.hub is not None:
            self.hub.kill()
            self.hub.close()
        for simulator in self.simulators:
            simulator.close()
        self.internet.down()


@asynccontextmanager
async def open_store(
    simulators: Mapping[str, Sequence[str]],
    tills: int,
    *,
    nursery: Nursery | None = None,
    wrappers: str = "",
    data: Path | None = None,
    env: Mapping[str, str] | None = None,
    online: bool = True,
    config: str = "",
) -> AsyncIterator[Store]:
    """A store that is open for business: the names of its terminals with their options, and so many tills."""
    folder = Path(tempfile.mkdtemp(prefix="hubd-crash-"))
    async with AsyncExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        store = Store(folder, data)
        undo.push_async_callback(store.close)
        for name, options in simulators.items():
            simulator = Simulator(folder, name, *options)
            simulator.start()
            store.simulators.append(simulator)
        if online:
            store.internet.up()
        store.write_config(config)
        if nursery is not None:
            store.hub = ForkedHub(nursery, store.config, wrappers or str(store.orders))
        else:
            store.hub = RealHub(store.config, env)
        await store.start_hub()
        await store.set_up(tills)
        yield store
