"""A store in which every kind of device names a card number wherever its protocol has room for one.

The hub and each device are processes of their own, on sockets and pseudo-terminals. What a device has said while it
leaked is asked of its simulator, so that a test knows that the number was on the line.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2

from drivers.keyboard_layouts import LAYOUTS
from drivers.keyboard_scanner_codec import Keys, text_of
from tests.crash.store import START_TIMEOUT_S, STEP_TIMEOUT_S, Nursery, Store, open_store
from tests.rigs.process import free_port, wait_for, wait_until

HERE = "127.0.0.1"
NUMBERS = ("5204739684211358", "6805330010086784747", "378282246310005")
"""Test numbers of three lengths, with few digits repeated: each is a card by issuer, length and check digit."""
CONTROL_BYTES_MAX = 16 * 1024 * 1024
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Kind:
    """How the device of a driver is put into the store."""

    simulator: str
    line: str = "tcp"
    arguments: tuple[str, ...] = ()
    scheme: str = ""
    """Of the hub's address, where the simulator names another one."""
    query: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    introduces_itself: bool = True
    """Whether it can say who it is while it leaks: other lines hold nothing but what the number takes the place of."""
    messages_min: int = 1
    """So many of its messages had the number in them."""


OPI_PORT = free_port()
KINDS: Mapping[str, Kind] = {
    "caisse_ap": Kind("caisse_ap", messages_min=6),
    "cas": Kind("scale", arguments=("--protocol", "cas"), introduces_itself=False),
    "cas_stream": Kind("scale", arguments=("--protocol", "cas_stream"), introduces_itself=False),
    "concert": Kind("concert", messages_min=4),
    "escpos": Kind("escpos", arguments=("--line-s", "0"), introduces_itself=False),
    "gsm_modem": Kind("modem", messages_min=4),
    "hid_scanner": Kind("scanner", "pty", ("--mode", "hid"), scheme="hidraw"),
    "ipp": Kind("ipp", arguments=("--line-s", "0"), messages_min=2),
    "keyboard_scanner": Kind("scanner", "pty", ("--mode", "keyboard"), scheme="evdev", options={"layout": "us"}),
    "nexo": Kind(
        "nexo",
        options={"poiid": "V400m-52500038", "key_identifier": "CryptoKeyIdentifier12345"},
        messages_min=12,
    ),
    "opi": Kind(
        "opi", arguments=("--device-port", str(OPI_PORT)), options={"device_port": str(OPI_PORT)}, messages_min=20
    ),
    "poslink": Kind("poslink", messages_min=12),
    "serial_scanner": Kind("scanner", "pty", ("--mode", "serial")),
    "toledo8217": Kind("scale", arguments=("--protocol", "toledo8217")),
    "zvt": Kind("zvt", messages_min=40),
}


class Leak:
    """The simulator of one driver as a process, which leaks from its start."""

    def __init__(self, nursery: Nursery, folder: Path, driver_id: str) -> None:
        self.driver_id, self.kind = driver_id, KINDS[driver_id]
        self._folder = folder / driver_id
        self._control = self._folder / "control"
        self._folder.mkdir()
        where = ["--pty", str(self._folder / "tty")] if self.kind.line == "pty" else ["--tcp", f"{HERE}:0"]
        tls = ["--tls-directory", str(self._folder / "tls")] if driver_id == "nexo" else []
        begin = ["--control", str(self._control), "--fault", f"leak={json.dumps(NUMBERS[0])}"]
        program = f"drivers.sim.{self.kind.simulator}"
        self.child = nursery.fork(program, [*where, *tls, *begin, *self.kind.arguments])
        self.device = ""
        """Its id in the hub."""

    @property
    def address(self) -> str:
        """Where the hub finds it."""
        wait_for(lambda: self.child.output().endswith("\n"), START_TIMEOUT_S, f"the simulator of {self.driver_id}")
        told: str = json.loads(self.child.output())["address"]
        scheme, _, rest = told.partition("://")
        place = rest.partition("?")[0] if self.kind.scheme else rest
        path = "/ipp/print" if self.driver_id == "ipp" else ""
        return f"{self.kind.scheme or scheme}://{place}{path}"

    async def tell(self, **request: Any) -> dict[str, Any]:
        """One command of the control socket."""
        reader, writer = await asyncio.open_unix_connection(self._control, limit=CONTROL_BYTES_MAX)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await reader.readline())
        finally:
            writer.close()
        await writer.wait_closed()
        assert "error" not in answer, (self.driver_id, answer)
        return answer

    async def leak(self, number: str) -> None:
        """Name this card number from now on; none: be well."""
        await self.tell(cmd="fault", name="leak", value=number)

    async def said(self) -> list[bytes]:
        """What it has said while it leaked, message by message; of keys what they spell."""
        told = [base64.b64decode(one) for one in (await self.tell(cmd="said"))["said"]]
        if self.driver_id != "keyboard_scanner":
            return told
        lines = [one for one in Keys().feed(b"".join(told)) if isinstance(one, list)]
        return [(text_of(presses, LAYOUTS["us"]) or "").encode() for presses in lines]


@dataclass
class LeakingStore:
    """Everything together. Made by `leaking_store`."""

    store: Store
    leaks: dict[str, Leak]
    client: httpx2.AsyncClient
    """The administrator's."""
    raw_port: int
    ipp_port: int
    paid: dict[str, str] = field(default_factory=dict)
    """The last approved payment of each terminal, by driver."""
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    """All that the hub's API has said, with what it was asked."""

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One request of the administrator, granted or not: status and JSON; the answer is kept."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.request(method, path, json=body, headers=named)
        self.answers.append((f"{method} {path} {answer.status_code}", answer.content))
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status_code, answer.json() if is_json and answer.content else None

    async def devices(self) -> dict[str, dict[str, Any]]:
        """By driver; tills have none."""
        _, shown = await self.ask("GET", "/v1/devices")
        return {one["driver"]: one for one in shown["items"] if one["driver"]}

    async def all_ready(self) -> None:
        """Wait until every device can be used, or says that it has heard a card."""

        async def ready() -> bool:
            shown = await self.devices()
            return all(one["state"] == "ready" or one["problem"] == "card_data_refused" for one in shown.values())

        try:
            await wait_until(ready, STEP_TIMEOUT_S, "every device", interval_s=0.2)
        except AssertionError as error:
            seen = {name: (one["state"], one["problem"]) for name, one in (await self.devices()).items()}
            raise AssertionError(f"{error}: {seen}") from None


def _configuration(leaks: Mapping[str, Leak], raw_port: int, ipp_port: int) -> str:
    quoted = json.dumps
    blocks = ["[log]\nlevel = 'debug'", f"[spool]\nipp_port = {ipp_port}"]
    blocks.append(f"[[spools]]\nprinter = 'escpos'\nraw_port = {raw_port}\nqueue = 'till'\nallow = ['{HERE}']\n")
    for driver_id, leak in leaks.items():
        options = [f"{name}={value}" for name, value in leak.kind.options.items()]
        password = "password = 'p@ssw0rd123456'\n" if driver_id == "nexo" else ""
        blocks.append(
            f"[[terminals]]\naddress = {quoted(leak.address)}\ndriver = '{driver_id}'\nname = '{driver_id}'\n"
            f"options = {quoted(options)}\n{password}"
        )
    return "\n".join(blocks) + "\n"


@asynccontextmanager
async def leaking_store(nursery: Nursery, folder: Path) -> AsyncIterator[LeakingStore]:
    """Open it: every device is in use, and has introduced itself while it leaked if it can."""
    raw_port, ipp_port = free_port(), free_port()
    async with AsyncExitStack() as undo:
        leaks = {driver_id: Leak(nursery, folder, driver_id) for driver_id in KINDS}
        for leak in leaks.values():
            undo.callback(leak.child.kill)
        config = await asyncio.to_thread(_configuration, leaks, raw_port, ipp_port)
        store = await undo.enter_async_context(open_store({}, 1, nursery=nursery, config=config))
        store.process.kill()  # what the configuration names is proposed at a start, once there is a location
        await store.start_hub()
        client = await undo.enter_async_context(store.administrator(STEP_TIMEOUT_S))
        opened = LeakingStore(store, leaks, client, raw_port, ipp_port)
        for driver_id, device in (await opened.devices()).items():
            leaks[driver_id].device = device["id"]
            status, said = await opened.ask("POST", f"/v1/devices/{device['id']}/activate")
            assert status < 300, said
        for leak in leaks.values():
            if not leak.kind.introduces_itself:
                await leak.leak("")
        await opened.all_ready()
        yield opened
