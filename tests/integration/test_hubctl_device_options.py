"""`hubctl devices options` and `set`: read, change one of several, take back, and be told what would be right."""

from __future__ import annotations

import json
from pathlib import Path

from drivers.sim.escpos import EscposSimulator
from drivers.sim.scanner import HidScannerSimulator
from hubd.model.device import DeviceKind
from hubd.model.print_job import PrintState
from tests.integration.test_hubctl_statement import hubctl
from tests.rigs.api import served_hub
from tests.unit.services.shop import Terminals, shop_runtime
from tests.unit.services.test_printing import until

PRINTER, SCANNER = "tcp://printer:9100", "hidraw:///dev/hidraw0"


async def test_options_are_set_one_by_one_and_taken_back(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    async with served_hub(tmp_path, terminals=counter) as hub:
        printer = await hub.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        name = "The printer"
        code, shown = await hubctl(hub, "devices", "options", name)
        assert (code, "columns" in shown, "16 to 96" in shown) == (0, True, True), shown
        assert (await hubctl(hub, "devices", "set", name, "columns=32"))[0] == 0
        code, printed = await hubctl(hub, "devices", "set", printer, "drawer_pin=5", "--json")
        found = {one["name"]: one["value"] for one in json.loads(printed)["options"]["options"]}
        assert (code, found["columns"], found["drawer_pin"]) == (0, "32", "5"), "what was set before stays"
        assert (await hubctl(hub, "devices", "set", name, "columns="))[0] == 0
        code, printed = await hubctl(hub, "devices", "options", name, "--json")
        found = {one["name"]: one["value"] for one in json.loads(printed)["options"]["options"]}
        assert (found["columns"], found["drawer_pin"]) == ("42", "5")
        for wrong in ("columns=9", "colour=red", "columns", "=32"):
            assert (await hubctl(hub, "devices", "set", name, wrong))[0] in (1, 2), wrong
        assert (await hub.shop.services.options.of(printer)).value("columns") == "42"


async def test_the_test_code_of_a_scanner_is_printed_where_there_is_a_printer(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.others[PRINTER] = EscposSimulator(counter.runtime)
    counter.others[SCANNER] = HidScannerSimulator(counter.runtime)
    async with served_hub(tmp_path, terminals=counter) as hub:
        await hub.shop.add_peripheral(SCANNER, "hid_scanner", DeviceKind.SCANNER)
        assert (await hubctl(hub, "devices", "test-code", "The scanner"))[0] == 1, "there is no printer yet"
        await hub.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        assert (await hubctl(hub, "devices", "test-code", "The printer"))[0] == 1, "only a scanner reads it"
        code, printed = await hubctl(hub, "devices", "test-code", "The scanner", "--json")
        job = json.loads(printed)["test_code"]["print_job"]
        assert code == 0
        await until(hub.shop, job, PrintState.PRINTED)
        (sheet,) = [one for one in simulator.receipts if any(line.plain(42).strip() for line in one.lines)]
        assert "Let the scanner read this code once." in "\n".join(line.plain(42) for line in sheet.lines)
