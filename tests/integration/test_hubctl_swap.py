"""`hubctl devices probe` and `hubctl devices use --replaces`: a broken device is swapped from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from drivers.probing import candidates
from drivers.registry import load
from drivers.sim.escpos import EscposSimulator
from hubd.model.device import DeviceKind, Endpoint, EndpointKind, IdentitySource
from tests.integration.test_hubctl_statement import hubctl
from tests.rigs.api import served_hub
from tests.unit.services.shop import Terminals, shop_runtime
from tests.unit.services.test_roles import not_well, printer_ready

OLD = "tcp://printer:9100"
LINE = "serial:///dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0"
WAYS = candidates(entry.manifest for entry in load().entries if entry.manifest is not None)


async def test_a_line_is_asked_and_takes_the_place_of_a_broken_printer(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    broken, spare = EscposSimulator(counter.runtime), EscposSimulator(counter.runtime)
    counter.others[OLD] = broken
    for way in WAYS:
        counter.others[f"{LINE}?{way.line}"] = spare
    async with served_hub(tmp_path, terminals=counter) as hub:
        old = await hub.shop.add_peripheral(OLD, "escpos", DeviceKind.PRINTER)
        counter.unplugged.add(OLD)
        await broken.control({"cmd": "unplug"})
        await not_well(hub.shop, old)
        discovery = hub.shop.services.discovery
        number = IdentitySource.SERIAL_NUMBER
        discovery.appeared(Endpoint("/sys/1", EndpointKind.SERIAL, LINE, "serial:0403:6001:A1:00", number, "FTDI"))
        await discovery.consider()
        (seen,) = discovery.all()
        code, shown = await hubctl(hub, "devices", "probe", seen.id)
        assert (code, shown.split(".")[0]) == (0, "It answers like escpos")
        code, shown = await hubctl(hub, "devices", "probe", seen.id, "--json")
        assert json.loads(shown)["endpoint"]["looks_like"] == "escpos"
        code, shown = await hubctl(hub, "devices", "use", seen.id, "--replaces", old)
        assert (code, shown) == (0, "The printer is in use (escpos).\n")
        (new,) = [
            view for view in await hub.shop.services.devices.all() if view.device.identity.startswith("serial:0403")
        ]
        await printer_ready(hub.shop, new.device.id)
        code, shown = await hubctl(hub, "devices")
        (line,) = [line for line in shown.splitlines() if old in line]
        assert (code, "replaced" in line) == (0, True)
