"""`hubctl devices show|watch|identify|test|trace` at a real hub's socket, by name and by id, for people and scripts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tarfile
from pathlib import Path

from drivers.sim.escpos import EscposSimulator
from drivers.sim.scale import ToledoSimulator
from drivers.sim.scanner import SerialScannerSimulator
from hubd.model.device import DeviceKind
from tests.integration.test_hubctl_statement import hubctl
from tests.rigs.api import ServedHub, served_hub
from tests.rigs.process import Child, wait_until
from tests.unit.services.shop import Terminals, shop_runtime

ROOT = Path(__file__).parents[2]
TERMINAL, PRINTER, SCALE, SCANNER = "tcp://terminal-1", "tcp://printer:9100", "tcp://scale:8217", "tcp://scanner:2000"
WAIT_S = 20.0


def following(hub: ServedHub, *args: str) -> Child:
    """hubctl as a program that goes on until it is told to stop."""
    folder = str(hub.socket.parent)
    places = {"HUBD_PATHS_DATA": folder, "HUBD_PATHS_RUNTIME": folder, "HUBD_CONFIG": f"{folder}/none.toml"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
    # Ctrl-C means what it means at a keyboard, also where these tests run in the background.
    command = ["env", "--default-signal=INT", sys.executable, "-c", "from hubd.cli import main; main()", *args]
    return Child(command, cwd=ROOT, env={**kept, **places, "PYTHONPATH": str(ROOT)})


def papers(printer: EscposSimulator) -> str:
    return "\n".join(line.plain(42) for one in printer.receipts for line in one.lines)


async def stop(child: Child) -> int:
    """Press Ctrl-C and say with which code it ends."""
    child.signal(signal.SIGINT)
    return await asyncio.to_thread(child.wait, WAIT_S)


async def test_a_terminal_is_shown_tried_and_traced_and_its_books_stay_as_they_were(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(TERMINAL)
    async with served_hub(tmp_path, terminals=counter) as hub:
        terminal = await hub.shop.add_terminal(TERMINAL)
        await hub.shop.until((await hub.shop.take(2000)).payment.id, "approved")
        books = simulator.ledger.as_json()
        code, said = await hubctl(hub, "devices", "test", "Terminal")
        assert (code, said) == (0, "Terminal: it answers.\n")
        code, shown = await hubctl(hub, "devices", "show", "Terminal")
        assert code == 0, shown
        for words in ("last answer", "52500038", "Simulator sim_1", "zvt", TERMINAL, "known by address", "pay"):
            assert words in " ".join(shown.split()), shown
        code, printed = await hubctl(hub, "devices", "show", terminal, "--json")
        answer = json.loads(printed)
        assert (code, answer["schema"], answer["device"]["id"], answer["device"]["state"]) == (0, 1, terminal, "ready")
        said_so = await hubctl(hub, "devices", "identify", "Terminal")
        assert said_so == (0, "Terminal shows its name on its display.\n")
        assert simulator.shown == ("This terminal is", "Terminal")
        assert simulator.ledger.as_json() == books
        code, traced = await hubctl(hub, "devices", "trace", "Terminal")
        assert code == 0
        assert "> 06 01 authorisation 04=000000002000" in traced
        saved = tmp_path / "trace.txt"
        assert (await hubctl(hub, "devices", "trace", terminal, "--save", str(saved)))[0] == 0
        assert "< 06 0F completion" in saved.read_text("utf-8")
        code, printed = await hubctl(hub, "devices", "trace", terminal, "--json")
        assert json.loads(printed)["lines"][0]["text"] == "opened"
        assert await hubctl(hub, "devices", "show", "Nobody") == (1, "")
        code, printed = await hubctl(hub, "bugreport", "--to", str(tmp_path), "--json")
        with tarfile.open(json.loads(printed)["file"]) as archive:
            held = archive.extractfile(f"hubd-bugreport/traces/{terminal}.txt")
            assert held is not None
            assert b"authorisation" in held.read()
        await simulator.unplug()
        await hub.shop.lost(terminal)
        code, shown = await hubctl(hub, "devices", "show", "Terminal")
        assert code == 1, "it is in use and not well"
        assert (await hubctl(hub, "devices", "test", "Terminal"))[0] == 1
    assert (await hubctl(hub, "devices", "show", "Terminal"))[0] == 3


async def test_peripherals_are_tried_for_what_they_are_for(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    printer, scale = EscposSimulator(counter.runtime), ToledoSimulator(counter.runtime)
    scanner = SerialScannerSimulator(counter.runtime)
    counter.others |= {PRINTER: printer, SCALE: scale, SCANNER: scanner}
    scale.grams = 345
    async with served_hub(tmp_path, terminals=counter) as hub:
        await hub.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await hub.shop.add_peripheral(SCALE, "toledo8217", DeviceKind.SCALE)
        await hub.shop.add_peripheral(SCANNER, "serial_scanner", DeviceKind.SCANNER)
        assert await hubctl(hub, "devices", "identify", "The printer") == (0, "The printer prints its name.\n")
        assert (await hubctl(hub, "devices", "test", "The printer"))[0] == 0
        await wait_until(lambda: "TEST" in papers(printer), WAIT_S, "the page that says TEST")
        assert await hubctl(hub, "devices", "test", "The scale") == (0, "The scale: 345 g.\n")
        async with asyncio.TaskGroup() as group:
            tried = group.create_task(hubctl(hub, "devices", "test", "The scanner"))
            while not tried.done():
                await scanner.scan("4006381333931")
                await hub.shop.services.runtime.clock.sleep(0.4)
        assert tried.result() == (
            0,
            "Scan something now.\nThe scanner: it has read a code of 13 characters (ean13).\n",
        )


async def test_changes_and_traces_are_followed_as_they_happen_until_ctrl_c(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(TERMINAL)
    async with served_hub(tmp_path, terminals=counter) as hub:
        terminal = await hub.shop.add_terminal(TERMINAL)
        watch, trace = following(hub, "devices", "watch"), following(hub, "devices", "trace", "Terminal", "--follow")
        with watch, trace:
            await wait_until(lambda: "opened" in trace.stdout(), WAIT_S, "the trace so far")
            assert "2000" not in trace.stdout()
            await hub.shop.until((await hub.shop.take(2000)).payment.id, "approved")
            await wait_until(lambda: "04=000000002000" in trace.stdout(), WAIT_S, "the payment in the trace")

            async def seen() -> bool:
                """A stream begins when it is open: what came before is not told."""
                await simulator.unplug()
                await hub.shop.lost(terminal)
                simulator.replug()
                await hub.shop.ready(terminal)
                return "Terminal: ready" in watch.stdout()

            await wait_until(seen, WAIT_S, "a change of the terminal")
            assert (await stop(watch), await stop(trace)) == (0, 0)
