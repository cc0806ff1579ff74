"""The plug is pulled while half a frame is on the line: nothing is guessed, nothing is lost, and it is known again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.machine.test_plugs import PULL_S
from tests.rigs.process import wait_for
from tests.rigs.vm_hub import LOOK_S, NEWS_TIMEOUT_S, MachineHub
from tests.rigs.vm_simulators import Played

pytestmark = pytest.mark.timeout(900)
AMOUNT = 1250
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


# -- a card payment ----------------------------------------------------------------------------------------------------


def take(hub: MachineHub, terminal: str, payment: str) -> dict[str, Any]:
    """What the hub answers to a till that asks for this payment, the first time or again."""
    wanted = {"amount": {"amount": AMOUNT, "currency": "EUR"}, "terminal": terminal}
    answer: dict[str, Any] = hub.api("PUT", f"/v1/payments/{payment}", wanted)
    return answer


def books(played: Played) -> tuple[list[tuple[int, str]], int]:
    """The terminal's own books, amounts and states; and how many payments it was asked for."""
    told = played.tell(cmd="ledger")
    return [(one["amount_minor"], one["state"]) for one in told["ledger"]], told["authorizations_received"]


def test_a_payment_whose_terminal_is_pulled_in_mid_frame_is_unknown_and_never_taken_twice(hub: MachineHub) -> None:
    hub.take_cards_offline()
    hub.make("terminal", "079b:0028", ["serial"], "Sagem", "EFT 930", "T1")
    terminal = hub.play("terminal", "drivers.sim.concert", 0)
    device = meet(hub, terminal, "T1", "concert")
    booked: list[tuple[int, str]] = []
    asked = 0
    # ENQ, STX, the cash register, half of the amount; and of the answer: ACK, ACK, ENQ, STX, up to its amount.
    for way, count, takes in (("heard", 8, False), ("said", 9, True)):
        terminal.hold(way, count)
        payment = hub.new_id()
        assert take(hub, device, payment)["state"] == "requested"
        terminal.wait_until_held()
        pull(hub, terminal, device)
        hub.wait_for(f"/v1/payments/{payment}", "unknown")
        booked += [(AMOUNT, "approved")] * takes
        asked += takes
        assert books(terminal) == (booked, asked)
        come_back(hub, terminal, device)
        assert take(hub, device, payment)["state"] == "unknown", "a till asks again, and the hub does not guess"
        assert books(terminal) == (booked, asked)
        following = hub.new_id()
        take(hub, device, following)
        hub.wait_for(f"/v1/payments/{following}", "approved")
        booked.append((AMOUNT, "approved"))
        asked += 1
        assert books(terminal) == (booked, asked), "the next customer pays once, the one before not again"


# -- a print job -------------------------------------------------------------------------------------------------------


def test_a_print_job_cut_off_by_the_plug_is_unknown_and_the_queue_goes_on_after_it(hub: MachineHub) -> None:
    # Its virtual serial line: the device's side of the kernel's printer gadget does not always survive such a pull.
    hub.make("till", "04b8:0202", ["serial"], "EPSON", "TM-m30", "P2")
    printer = hub.play("till", "drivers.sim.escpos", 0, "--line-s", "0")
    device = meet(hub, printer, "P2", "escpos")

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
