"""A hub's own process among printers that other people wrote: avahi announces them, ippeveprinter prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hubd.runtime import SystemIds
from tests.integration.test_hubd_command import hubctl
from tests.rigs import pdf
from tests.rigs.office import PRINTER_ADDRESS, Office
from tests.rigs.process import Child, wait_for
from tests.tidy.tree import ROOT

WAIT_S = 60.0
CONFIG = """
[paths]
data = "{place}/data"
runtime = "{place}/run"
[api]
https_port = 0
http_port = 0
[probes]
gateway = "tcp://127.0.0.1:1"
dns_server = "127.0.0.1:1"
internet = ["tcp://127.0.0.1:1"]
"""
SHORT_LIVED = """
import asyncio, socket, sys
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
async def main():
    zeroconf = AsyncZeroconf(interfaces=[sys.argv[1]])
    kind = "_pdl-datastream._tcp.local."
    info = AsyncServiceInfo(kind, "Brief." + kind, addresses=[socket.inet_aton(sys.argv[1])], port=9100,
                            server="brief.local.", host_ttl=4, other_ttl=4)
    await (await zeroconf.async_register_service(info))
    print("announced", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
"""A printer whose word lasts for four seconds; avahi's lasts for 75 minutes."""
pytestmark = pytest.mark.timeout(240)


class Hub:
    """A hub that is set up, asked over its socket as `hubctl` does."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.client = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(place / "run/hubd.sock")), base_url="http://hub", timeout=30
        )
        owner = {"id": SystemIds().new_id(), "name": "Ada", "pin": "2580"}
        shop = {"id": SystemIds().new_id(), "name": "Corner", "zone": "UTC", "currency": "EUR", "country": "FR"}
        self.ask("POST", "/v1/setup", {"owner": owner, "location": shop})

    def ask(self, method: str, path: str, body: object = None) -> Any:
        answer = self.client.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def found(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.ask("GET", "/v1/endpoints")["items"] if one["name"] == name]

    def one_found(self, name: str, **wanted: object) -> dict[str, Any]:
        """What was found under this name, once it is one thing and has these values."""

        def seen() -> dict[str, Any] | None:
            found = self.found(name)
            fits = len(found) == 1 and all(found[0][key] == value for key, value in wanted.items())
            return found[0] if fits else None

        return wait_for(seen, WAIT_S, f"{name} with {wanted}")

    def device(self, device: str) -> dict[str, Any]:
        (one,) = [one for one in self.ask("GET", "/v1/devices")["items"] if one["id"] == device]
        return dict(one)

    def until_state(self, device: str, state: str) -> None:
        wait_for(lambda: self.device(device)["state"] == state, WAIT_S, f"{device} to be {state}")

    def print(self, printer: str, title: str, *items: dict[str, Any]) -> str:
        job = SystemIds().new_id()
        body = {"printer": printer, "document": {"title": title, "items": list(items)}}
        self.ask("PUT", f"/v1/print-jobs/{job}", body)
        return job

    def until_job(self, job: str, state: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found = self.ask("GET", f"/v1/print-jobs/{job}")
            return found if found["state"] == state else None

        return wait_for(reached, WAIT_S, f"the job to be {state}")

    def hubctl(self, *words: str) -> dict[str, Any]:
        done = hubctl(self.place, "--config", str(self.place / "hubd.toml"), *words, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


@contextmanager
def hub_of(office: Office) -> Iterator[Hub]:
    config = office.place / "hubd.toml"
    config.write_text(CONFIG.format(place=office.place))
    child = office.at_the_hub(sys.executable, "-m", "hubd", "run", "--config", config, PYTHONPATH=str(ROOT))
    child.wait_for_text("hubd 0.1.0 trades.", WAIT_S)
    made = Hub(office.place)
    try:
        yield made
        assert child.stop() == 0
    finally:
        made.client.close()


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    with Office() as built:
        yield built


@pytest.fixture(scope="module")
def hub(office: Office) -> Iterator[Hub]:
    with hub_of(office) as running:
        yield running


def stopped(child: Child) -> None:
    assert child.running
    child.stop()


def test_a_printer_is_found_taken_into_use_printed_on_and_gone(office: Office, hub: Hub) -> None:
    go = office.place / "go"
    printer = office.printer("Front office", 8631, f"while [ ! -e {go} ]; do sleep 0.05; done")
    seen = hub.one_found("Front office", standing="offered")
    assert (seen["driver"], seen["service"]) == ("ipp", "_ipp._tcp.local.")
    assert seen["address"] == f"tcp://{PRINTER_ADDRESS}:8631/ipp/print"
    assert seen["identity"] == f"serial:{seen['txt']['uuid']}"
    device = hub.hubctl("devices", "use", seen["id"])["device"]
    assert (device["kind"], device["name"]) == ("printer", "Front office")
    hub.until_state(device["id"], "ready")

    receipt = ({"type": "row", "left": "Café crème", "right": "4,20 €"}, {"type": "qr", "data": "https://x.test/1"})
    go.touch()
    job = hub.print(device["id"], "Receipt T1-000001", *receipt)
    assert hub.until_job(job, "printed")["papers"] == 1
    (spooled,) = office.spooled()
    printed = spooled.read_bytes()
    assert [line.split() for line in pdf.text_of(printed)] == [["Café", "crème", "4,20", "€"]]
    assert pdf.codes_of(printed) == {"QR-Code:https://x.test/1"}
    assert pdf.facts_of(printed)["Title"] == "Receipt T1-000001"

    # The cable is out while it prints: the job is asked for when it is in again, and not sent again.
    go.unlink()
    job = hub.print(device["id"], "Receipt T1-000002", *receipt)
    wait_for(lambda: len(office.spooled()) == 2, WAIT_S, "the second document")
    office.pull_the_cable(out=True)
    go.touch()
    hub.until_job(job, "printing")
    office.pull_the_cable(out=False)
    assert hub.until_job(job, "printed")["papers"] == 1
    assert len(office.spooled()) == 2

    stopped(printer)
    wait_for(lambda: not hub.found("Front office"), WAIT_S, "the goodbye")
    hub.until_state(device["id"], "gone")
    waiting = hub.print(device["id"], "Receipt T1-000003", *receipt)
    assert hub.ask("GET", f"/v1/print-jobs/{waiting}")["state"] == "waiting"
    office.printer("Front office", 8631)
    hub.until_state(device["id"], "ready")
    assert hub.until_job(waiting, "printed")["papers"] == 1
    assert hub.one_found("Front office", standing="known")["device"] == device["id"]


def test_a_printer_that_takes_no_pdf_is_given_pictures(office: Office, hub: Hub) -> None:
    office.printer("Simple", 8632, formats="image/urf,image/pwg-raster")
    device = hub.hubctl("devices", "use", hub.one_found("Simple", standing="offered")["id"])["device"]
    hub.until_state(device["id"], "ready")
    job = hub.print(
        device["id"], "Receipt", {"type": "text", "text": "Café"}, {"type": "qr", "data": "https://x.test/2"}
    )
    assert hub.until_job(job, "printed")["papers"] == 1
    (spooled,) = office.spooled("pwg")
    (picture,) = pdf.pictures_of(spooled.read_bytes())
    assert pdf.codes_on(picture) == {"QR-Code:https://x.test/2"}


def test_one_printer_with_several_services_is_one_device(office: Office, hub: Hub) -> None:
    uuid = "0d2c1a4e-77a1-4a56-8a53-1f0b7e6f9a11"
    office.publish("Back office", "_printer._tcp", 515, UUID=uuid)
    assert hub.one_found("Back office", standing="unusable", reason="lpd_only")["why"]
    office.publish("Back office", "_pdl-datastream._tcp", 9100, UUID=uuid, pdl="application/postscript")
    raw = hub.one_found("Back office", service="_pdl-datastream._tcp.local.")
    assert (raw["standing"], raw["reason"]) == ("unusable", "office_printer")
    ipp = office.publish("Back office", "_ipp._tcp", 631, UUID=uuid, rp="printers/back", ty="Example MFP")
    offered = hub.one_found("Back office", standing="offered", driver="ipp")
    assert offered["address"] == f"tcp://{PRINTER_ADDRESS}:631/printers/back"
    stopped(ipp)
    hub.one_found("Back office", reason="office_printer")


def test_a_receipt_printer_tells_that_it_is_one_or_a_person_does(office: Office, hub: Hub) -> None:
    told = office.publish("Kitchen", "_pdl-datastream._tcp", 9100, ty="EPSON TM-T88VI")
    assert hub.one_found("Kitchen", standing="offered")["driver"] == "escpos"
    stopped(told)
    wait_for(lambda: not hub.found("Kitchen"), WAIT_S, "the goodbye")
    office.publish("Kitchen", "_pdl-datastream._tcp", 9100)
    seen = hub.one_found("Kitchen", standing="choose")
    assert seen["drivers"] == ["escpos"]
    device = hub.hubctl("devices", "use", seen["id"], "--driver", "escpos")["device"]
    assert (device["driver"], device["address"]) == ("escpos", f"tcp://{PRINTER_ADDRESS}:9100")


def test_a_printer_that_dies_without_goodbye_goes_when_its_word_is_over(office: Office, hub: Hub) -> None:
    peer = office.among_printers(sys.executable, "-c", SHORT_LIVED, PRINTER_ADDRESS)
    peer.wait_for_text("announced", WAIT_S)
    hub.one_found("Brief", standing="choose")
    peer.kill()
    wait_for(lambda: not hub.found("Brief"), WAIT_S, "the end of its word")
