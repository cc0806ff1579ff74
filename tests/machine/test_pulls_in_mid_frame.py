"""The plug is pulled while half a frame is on the line: nothing is guessed, nothing is lost, and it is known again."""

from __future__ import annotations

import json
import re

import pytest

from tests.machine.test_plugs import PULL_S
from tests.rigs.process import wait_for
from tests.rigs.vm_hub import LOOK_S, NEWS_TIMEOUT_S, MachineHub
from tests.rigs.vm_simulators import Played

pytestmark = pytest.mark.timeout(900)
EAN = "4006381333931"
LONG = "LOT-ABCDEFGHIJKLMNOPQRSTUVWXYZ-abcdefghijklmnopqrstuvwxyz-PART-A-PART-B"
"""More than one report of a HID scanner holds."""
TEXT = "Two coffees, one tea, a piece of cake with cherries, and a glass of water with nothing in it"


def meet(hub: MachineHub, played: Played, number: str, driver: str) -> str:
    """Plug it in for the first time and take it into use; returns the device."""
    played.plug()
    return hub.claim(hub.wait_for_endpoint(number, with_address=True), driver)


def pull(hub: MachineHub, played: Played, device: str) -> None:
    """Pull it; it is shown as unplugged in time."""

    def shown_as_gone(page: str) -> bool:
        section = re.search(rf'<section id="device-{device}".*?</section>', page, re.DOTALL)
        assert section is not None, "the device left the page"
        return "unplugged or off" in section[0]

    took = hub.time_until(played.pull, shown_as_gone, f"{device} unplugged")
    print(f"\nunplugged in mid-frame: on the page after {took.seconds:.2f} ({took.elapsed_s:.2f} by the clock) s")
    assert took.seconds <= PULL_S


def come_back(hub: MachineHub, played: Played, device: str) -> None:
    """Plug it in again: the same device, usable."""
    played.plug()
    hub.wait_for_state(device, "ready")


# -- a print job -------------------------------------------------------------------------------------------------------


def test_a_print_job_cut_off_by_the_plug_is_unknown_and_the_queue_goes_on_after_it(hub: MachineHub) -> None:
    hub.make("printer", "04b8:0e15", ["printer"], "EPSON", "TM-T88V", "P1")
    printer = hub.play("printer", "drivers.sim.escpos", 0, "--line-s", "0")
    device = meet(hub, printer, "P1", "escpos")

    def ask_for(title: str) -> str:
        path = f"/v1/print-jobs/{hub.new_id()}"
        items = [{"type": "text", "text": f"{title}: {TEXT}"}, {"type": "cut"}]
        hub.api("PUT", path, {"document": {"title": title, "items": items}, "printer": device})
        return path

    printer.hold("heard", len(TEXT))
    cut_off = ask_for("First")
    printer.wait_until_held()
    pull(hub, printer, device)
    assert hub.wait_for(cut_off, "unknown")["papers"] == 1
    following = ask_for("Second")
    assert hub.api("GET", following)["state"] == "waiting"
    come_back(hub, printer, device)
    hub.wait_for(following, "printed")
    assert hub.api("GET", cut_off)["state"] == "unknown", "it may be on paper: only a person prints it again"
    hub.api("POST", f"{cut_off}/again", {})
    assert hub.wait_for(cut_off, "printed")["papers"] == 2
    papers = ["\n".join(one["lines"]) for one in printer.tell(cmd="receipts")["receipts"]]
    assert ["COPY" in paper for paper in papers if "Second:" in paper] == [False], papers
    assert ["First:" in paper for paper in papers if "COPY" in paper] == [True], papers


# -- scans and weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "product", "function", "driver", "half"),
    [
        ("hid", "0c2e:0b61", "scanner", "hid_scanner", 64 + 20),  # one report, and some of the next
        ("serial", "0c2e:0720", "serial", "serial_scanner", 20),
    ],
    ids=["hid", "serial"],
)
def test_half_a_code_is_no_scan(
    hub: MachineHub, mode: str, product: str, function: str, driver: str, half: int
) -> None:
    hub.make("hand", product, [function], "Honeywell", "Xenon", f"S-{mode}")
    scanner = hub.play("hand", "drivers.sim.scanner", 0, "--mode", mode)
    device = meet(hub, scanner, f"S-{mode}", driver)
    file = hub.ask_beside("/v1/scans")

    def heard() -> list[str]:
        events = re.findall(r"^data: (\{.*\})$", hub.answered(file), re.MULTILINE)
        return [one["data"]["text"] for one in map(json.loads, events) if one.get("subject") == device]

    def scan_until_heard(text: str, count: int) -> None:
        """What comes before the line has been quiet once is dropped, so the first may have to be repeated."""

        def scanned() -> bool:
            scanner.tell(cmd="scan", text=text)
            return len(heard()) >= count

        wait_for(scanned, NEWS_TIMEOUT_S, f"the scan of {text}", interval_s=LOOK_S)

    scan_until_heard(EAN, 1)
    before = len(heard())
    scanner.hold("said", half)
    scanner.tell(cmd="scan", text=LONG)
    scanner.wait_until_held()
    pull(hub, scanner, device)
    come_back(hub, scanner, device)
    scan_until_heard(LONG, before + 1)
    texts = heard()
    assert set(texts[before:]) <= {LONG, EAN}
    assert set(texts) == {EAN, LONG}


def test_half_a_weight_is_no_weight(hub: MachineHub) -> None:
    hub.make("scale", "0eb8:f000", ["serial"], "Mettler", "Viva", "W1")
    scale = hub.play("scale", "drivers.sim.scale", 0, "--protocol", "toledo8217", "--grams", "345")
    device = meet(hub, scale, "W1", "toledo8217")
    path = f"/v1/scales/{device}/weight"
    assert hub.api("GET", path)["grams"] == 345
    scale.hold("said", 4)  # STX, 00.
    file = hub.ask_beside(path)
    scale.wait_until_held()
    pull(hub, scale, device)
    answer = wait_for(
        lambda: hub.answered(file) if hub.answered(file).endswith("ended") else "", NEWS_TIMEOUT_S, "the answer"
    )
    said = json.loads(answer.partition("\r\n\r\n")[2].removesuffix("\nended"))
    assert said["grams"] is None
    come_back(hub, scale, device)
    assert hub.api("GET", path)["grams"] == 345
