"""The demo's control socket: `hubctl demo …` plays the story through it. One JSON object a line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from hubd.demo import simulators
from hubd.demo.network import DemoNetwork
from hubd.demo.simulators import PRINTER, SCALE, SCANNER, TERMINAL, Simulated
from hubd.errors import HubError, InvalidValueError
from hubd.model.mode import Mode, ModeSnapshot
from hubd.runtime import Clock
from hubd.services.outages import OutageDesk
from sync.cloud.link import InProcessCloud
from sync.link_worker import CloudSync

LINE_BYTES_MAX = 64 * 1024
NOTICE_TIMEOUT_S = 120.0
"""Twice what it takes: a silent cloud is waited for (45 s), and then the outage must last (5 s) or be over (10 s)."""
SYMBOLOGIES = {13: "ean13", 8: "ean8"}
"""What a scanner takes so many digits for."""
OTHER_CODE = "code128"
OUTAGES = {"network": Mode.NETWORK_OUTAGE, "service": Mode.SERVICE_DISRUPTION}


class Story:
    """What can happen to the demo store."""

    def __init__(
        self,
        network: DemoNetwork,
        cloud: InProcessCloud,
        devices: list[Simulated],
        outages: OutageDesk,
        sync: CloudSync | None,
        clock: Clock,
    ) -> None:
        self._network = network
        self._cloud = cloud
        self._devices = devices
        self._outages = outages
        self._sync = sync
        self._clock = clock
        self._moved = asyncio.Event()
        outages.listen(self._note)

    def _note(self, _: ModeSnapshot) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def play(self, request: dict[str, Any]) -> dict[str, Any]:
        """One command; raises HubError for what the demo does not know."""
        match request:
            case {"cmd": "outage", "kind": str(kind)} if kind in OUTAGES:
                await self._outage(kind)
                return await self._seen(OUTAGES[kind])
            case {"cmd": "restore"}:
                await self._restore()
                return await self._seen(Mode.ONLINE)
            case {"cmd": "unplug" | "replug" as what, "device": str(device)}:
                found = simulators.find(self._devices, device)
                await simulators.command(found, self._clock, cmd=what)
                return {"ok": True, "device": found.name}
            case {"cmd": "scan", "code": str(code)}:
                symbology = SYMBOLOGIES.get(len(code), OTHER_CODE) if code.isdecimal() else OTHER_CODE
                return await self._tell(SCANNER, cmd="scan", text=code, symbology=symbology)
            case {"cmd": "weigh", "grams": int(grams)}:
                return await self._tell(SCALE, cmd="weight", grams=grams)
            case {"cmd": "paper", "lines": int(lines)}:
                return await self._tell(PRINTER, cmd="paper", lines=lines)
            case {"cmd": "paper"}:
                return await self._tell(PRINTER, cmd="paper")
            case {"cmd": "state"}:
                return {"ok": True, "mode": self._outages.snapshot().mode.value}
        raise InvalidValueError(
            "demo.unknown_command",
            "The demo does not know this command.",
            remedy="It knows outage network, outage service, restore, unplug, replug, scan, weigh, paper and state.",
        )

    async def _tell(self, driver: str, **request: Any) -> dict[str, Any]:
        """Let something happen to the demo's only device of this driver."""
        device = next(one for one in self._devices if one.driver == driver)
        await simulators.command(device, self._clock, **request)
        return {"ok": True, "device": device.name, "identity": device.identity}

    async def _outage(self, kind: str) -> None:
        if kind == "network":
            await self._network.cut()
            self._cloud.reachable = False
            self._cloud.cut()
        else:
            await self._network.mend()
            self._cloud.reachable, self._cloud.answering = True, False
            # The conversation that is open would only be missed after a long silence; a new one is not answered.
            self._cloud.cut()
        await self._hosts(up=False)

    async def _restore(self) -> None:
        await self._network.mend()
        self._cloud.reachable = self._cloud.answering = True
        self._cloud.cut()
        await self._hosts(up=True)
        if self._sync is not None:
            self._sync.wake()

    async def _hosts(self, *, up: bool) -> None:
        """The terminals reach their acquirer by the same line as the hub its cloud."""
        for device in self._devices:
            if device.driver == TERMINAL:
                await simulators.command(device, self._clock, cmd="host", up=up)

    async def _seen(self, mode: Mode) -> dict[str, Any]:
        """Answer when the hub itself has noticed, by its own measurements."""
        try:
            async with self._clock.timeout(NOTICE_TIMEOUT_S):
                while self._outages.snapshot().mode is not mode:
                    await self._moved.wait()
        except TimeoutError:
            return {"ok": False, "mode": self._outages.snapshot().mode.value, "expected": mode.value}
        return {"ok": True, "mode": mode.value}


class Control:
    """Serves the socket."""

    def __init__(self, story: Story, path: Path) -> None:
        self._story = story
        self._path = path

    async def run(self) -> None:
        """Serve until cancelled."""
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._client, self._path, limit=LINE_BYTES_MAX)
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # a client that goes away or writes without end hurts only itself
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        try:
            return await self._story.play(request if isinstance(request, dict) else {})
        except HubError as error:
            return {"ok": False, "code": error.code, "detail": error.detail, "remedy": error.remedy}
