"""The lines of OPI: the one on which the terminal calls the hub, and a terminal that hangs up after each answer."""

from __future__ import annotations

import asyncio
import contextlib
import random  # noqa: TID251 - the Runtime that a driver is given is made here
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from drivers.base import Lines
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.link import LineLostError
from drivers.opi import OpiTerminal
from drivers.opi_codec import frame
from drivers.opi_devices import REQUESTS_MAX, Heard, TillDevices, answer_to, step_of
from drivers.opi_link import MESSAGES_WAITING_MAX, OpiLink
from drivers.opi_messages import (
    CARD_PAYMENT,
    DEVICE_UNAVAILABLE,
    INPUT,
    LINES_MAX,
    OUTPUT,
    PRINTER_RECEIPT,
    SUCCESS,
    DeviceRequest,
    DeviceResponse,
    Output,
    OutputResult,
    Till,
    decode,
    encode,
    request_id_of,
)
from drivers.opi_options import DEVICE_PORT, DEVICE_PORT_DEFAULT
from drivers.sim.opi import OpiSimulator
from hubd.errors import DeviceError
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    ByteStream,
    Cancelled,
    Declined,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    Progress,
    Unknown,
)
from hubd.runtime import Runtime, SystemIds
from tests.contract.terminal_bench import Bench, bench

URL = "tcp://terminal:4100"
AMOUNT = Money(2040, "EUR")


def runtime() -> Runtime:
    return Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16)


async def nobody() -> ByteStream:
    raise ConnectionRefusedError("nobody listens")


def receipt(request_id: str, *lines: str) -> DeviceRequest:
    return DeviceRequest(OUTPUT, request_id, "1", outputs=(Output(PRINTER_RECEIPT, lines),))


# -- what the hub answers ----------------------------------------------------------------------------------------------


def test_what_is_shown_or_printed_is_answered_with_success() -> None:
    request = DeviceRequest(OUTPUT, "7", outputs=(Output("CashierDisplay", ("x",)), Output("Printer")))
    printed = (OutputResult("CashierDisplay", SUCCESS), OutputResult("Printer", SUCCESS))
    assert answer_to(request, Till("4")) == DeviceResponse(OUTPUT, "7", SUCCESS, Till("4"), printed)


@pytest.mark.parametrize("kind", [INPUT, "SecureInput", "SecureOutput", OUTPUT])
def test_nothing_is_confirmed_in_a_persons_name(kind: str) -> None:
    answer = answer_to(DeviceRequest(kind, "7", input_target="CashierKeyboard"), Till())
    assert answer.overall_result == DEVICE_UNAVAILABLE
    assert answer.input == OutputResult("CashierKeyboard", DEVICE_UNAVAILABLE)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("Introduisez la carte", "insert_card"), ("Insert card", "insert_card"), ("Karte einstecken", "insert_card"),
        ("Bied kaart aan", "insert_card"), ("Retirez la carte", "remove_card"), ("Verwijder kaart", "remove_card"),
        ("Enter PIN", "enter_pin"), ("Tapez votre code", "enter_pin"), ("Connexion en cours", "waiting_for_host"),
        ("Vorgang wird bearbeitet", "please_wait"), ("", "please_wait"), ("4111111111111111", "please_wait"),
    ],
)  # fmt: skip
def test_display_texts_become_codes(text: str, step: str) -> None:
    assert step_of(text) == step


def test_receipts_are_bounded_and_each_step_is_told_once() -> None:
    told: list[Progress] = []
    heard = Heard(told.append)
    for _ in range(3):
        heard.note(receipt("1", *["line"] * (LINES_MAX - 1)))
        heard.note(DeviceRequest(OUTPUT, "1", outputs=(Output("CashierDisplay", ("Insert card",)),)))
    assert len(heard.lines) == LINES_MAX
    assert told == [Progress("insert_card", "Insert card")]


# -- the line that the terminal opens ----------------------------------------------------------------------------------


@asynccontextmanager
async def called(heard: list[DeviceRequest]) -> AsyncIterator[tuple[MemoryStream, asyncio.Task[None]]]:
    hub, device = memory_pipe()
    devices = TillDevices(VirtualClock(), Till(), heard.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(devices.serve(hub), name="serve")
        yield device, task
        await device.close()


async def answer_on(device: MemoryStream) -> object:
    size = int.from_bytes(await device.read(4), "big")
    return decode(await device.read(size))


def test_an_input_is_answered_and_the_line_goes_on() -> None:
    async def main() -> None:
        heard: list[DeviceRequest] = []
        async with called(heard) as (device, _):
            for request in (DeviceRequest(INPUT, "1", input_target="CashierKeyboard"), receipt("1", "é")):
                await device.write(frame(encode(request, "ISO-8859-1")))
                answer = await answer_on(device)
                assert isinstance(answer, DeviceResponse)
                assert answer.request_id == "1"
        assert [request.request_type for request in heard] == [INPUT, OUTPUT]
        assert heard[1].outputs[0].lines == ("é",)

    run(main())


@pytest.mark.parametrize(
    "spoiled",
    [b"\xff\xff\xff\xff", frame(b"<x>"), frame(encode(DeviceResponse(OUTPUT, "1", SUCCESS))), b"\x00\x00\x00\x05VER|A"],
)
def test_a_caller_that_speaks_something_else_is_not_listened_to(spoiled: bytes) -> None:
    async def main() -> None:
        heard: list[DeviceRequest] = []
        async with called(heard) as (device, task):
            await device.write(spoiled)
            await task
        assert heard == []

    run(main())


def test_a_caller_that_floods_loses_its_line_and_one_that_talks_all_day_does_not() -> None:
    async def main(pause_s: float) -> int:
        heard: list[DeviceRequest] = []
        clock = VirtualClock()
        async with called(heard) as (device, task):
            for _ in range(2 * REQUESTS_MAX):
                await device.write(frame(encode(receipt("1"))))
                await clock.sleep(pause_s)
                if task.done():
                    break
        return len(heard)

    assert run(main(0.01)) == REQUESTS_MAX
    assert run(main(0.5)) == 2 * REQUESTS_MAX


def test_a_link_on_which_nobody_looks_keeps_a_bounded_number_of_messages() -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        link = OpiLink(hub, VirtualClock())
        await device.write(frame(encode(receipt("1"))) * (MESSAGES_WAITING_MAX + 1))
        assert await link.pump() == "babble"
        assert link.discard_received() == MESSAGES_WAITING_MAX
        with pytest.raises(LineLostError, match="babble"):
            await link.receive(1)
        with pytest.raises(LineLostError, match="babble"):
            await link.send(b"<x/>")

    run(main())


# -- the driver with both channels -------------------------------------------------------------------------------------


def test_receipts_come_on_the_second_channel_and_belong_to_their_payment() -> None:
    async def main() -> None:
        async with bench("opi", URL) as made, asyncio.TaskGroup() as group:
            steps: list[Progress] = []
            outcome = await made.terminal.authorize(AuthorizeRequest("a", AMOUNT), steps.append)
            assert isinstance(outcome, Approved)
            assert "Montant 20,40 EUR" in outcome.evidence.receipt_lines
            assert "Paiement accepté" in outcome.evidence.receipt_lines
            assert [step.code for step in steps] == ["started", "insert_card", "waiting_for_host", "remove_card"]
            # What is printed late for an earlier payment is answered, and kept by none.
            paying = group.create_task(made.pay(Money(1090, "EUR")), name="pay")
            await made.clock.sleep(5)
            device = await made.ports.dial(DEVICE_PORT_DEFAULT)
            for request_id, line in ((request_id_of(CARD_PAYMENT, "a"), "late"), ("7.3", "now")):
                await device.write(frame(encode(receipt(request_id, line))))
                assert isinstance(await answer_on(device), DeviceResponse)
            payment = await paying
            assert isinstance(payment.outcome, Approved)
            assert "late" not in payment.outcome.evidence.receipt_lines
            assert "now" in payment.outcome.evidence.receipt_lines

    run(main())


def test_a_payment_survives_the_loss_of_the_second_channel() -> None:
    async def main() -> None:
        async with bench("opi", URL) as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(Money(1090, "EUR")), name="pay")
            await made.clock.sleep(5)
            assert made.ports.hang_up(DEVICE_PORT_DEFAULT) == 1
            payment = await paying
            assert isinstance(payment.outcome, Approved)
            payment.judge(Money(1090, "EUR"))

    run(main())


def test_a_second_terminal_at_the_same_device_port_is_a_visible_problem() -> None:
    async def main() -> None:
        async with bench("opi", URL) as made:
            second = OpiTerminal(runtime())
            hub, _ = memory_pipe()
            second.attach(hub, URL, Lines(nobody, lambda port, serve: made.ports.accept(port, "t", serve)))
            async with asyncio.TaskGroup() as group:
                pump = group.create_task(second.pump(), name="pump")
                with pytest.raises(DeviceError, match="cannot listen on port 4102") as caught:
                    await second.identify()
                assert await pump == "device_port_taken"
            assert caught.value.code == "device.port_taken"
            assert caught.value.params["reason"] == "device_port_taken"
            assert not second.usable

    run(main())


@pytest.mark.parametrize("port", ["", "x", "0", "65536", "-1", "４１０２"])
def test_a_device_port_is_a_port(port: str) -> None:
    async def main() -> None:
        with pytest.raises(DeviceError, match="number from 1 to 65535"):
            OpiTerminal(runtime(), {DEVICE_PORT: port})

    run(main())


def test_a_terminal_that_has_lost_its_login_is_logged_in_to_again() -> None:
    async def main() -> None:
        async with bench("opi", URL) as made:
            made.simulator.power_cut()
            refused = await made.terminal.authorize(AuthorizeRequest("a", AMOUNT), lambda _: None)
            assert isinstance(refused, NotStarted)
            assert refused.reason == "not_registered"
            await made.ready()
            assert isinstance((await made.pay(AMOUNT)).outcome, Approved)
            for ask in (made.terminal.diagnose, lambda: made.terminal.enquire(EnquiryRequest("x", AMOUNT, ""))):
                made.simulator.power_cut()
                with contextlib.suppress(DeviceError):
                    assert isinstance(await ask(), Inconclusive)
                await made.ready()
                assert isinstance((await made.pay(AMOUNT)).outcome, Approved)

    run(main())


def test_an_abort_goes_on_the_payments_own_line_where_there_is_no_other() -> None:
    async def main() -> None:
        async with bench("opi", URL) as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(Money(1090, "EUR")), name="pay")
            await made.clock.sleep(25)
            made.simulator.plugged = False
            assert await made.terminal.abort() is True
            made.simulator.plugged = True
            payment = await paying
            assert isinstance(payment.outcome, Cancelled)
            payment.judge(Money(1090, "EUR"))

    run(main())


def test_a_caller_whose_sink_fails_leaves_no_customer_to_pay() -> None:
    async def main() -> None:
        async with bench("opi", URL) as made:
            made.simulator.options = replace(made.simulator.options, keeps_going=True)

            def fail(progress: Progress) -> None:
                if progress.code == "insert_card":
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await made.terminal.authorize(AuthorizeRequest("a", Money(1090, "EUR")), fail)
            await made.ready()
            assert [t.state.value for t in made.simulator.ledger.transactions] == ["cancelled"]

    run(main())


def test_an_enquiry_without_content_proves_nothing() -> None:
    async def main() -> None:
        async with bench("opi", URL) as made:
            await made.pay(AMOUNT)
            made.simulator.faults.no_receipt_content = True
            answer = await made.terminal.enquire(EnquiryRequest("a", AMOUNT, ""))
            assert isinstance(answer, Inconclusive)
            assert answer.reason == "no_content"

    run(main())


# -- a terminal that closes the line after each answer -----------------------------------------------------------------


@asynccontextmanager
async def hanging_up() -> AsyncIterator[Bench]:
    async with bench("opi", URL) as made:
        simulator = made.simulator
        assert isinstance(simulator, OpiSimulator)
        simulator.options = replace(simulator.options, hangs_up=True)
        made.line.hub.cut()
        await made.until(lambda: len(made.lines) == 2, "a new line")
        await made.ready()
        made.states.clear()
        yield made


def test_a_terminal_that_hangs_up_after_each_answer_stays_ready() -> None:
    async def main() -> None:
        async with hanging_up() as made:
            for amount in (2000, 1005, 1011):
                payment = await made.pay(Money(amount, "EUR"))
                payment.judge(Money(amount, "EUR"))
                assert not isinstance(payment.outcome, Unknown)
            await made.clock.sleep(3600)
            assert {status.state for status in made.states} <= {DeviceState.BUSY, DeviceState.READY}
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, Approved)
            reversal = await made.reverse(AMOUNT, payment.outcome.evidence.receipt_number)
            assert isinstance(reversal.outcome, Approved)
            assert (await made.terminal.send_offline()).complete

    run(main())


def test_a_terminal_that_hangs_up_is_asked_about_a_lost_answer() -> None:
    async def main() -> None:
        async with hanging_up() as made:
            for at in range(0, 900, 7):
                await made.terminal.baseline()
                made.on_line = lambda line, at=at: setattr(line.device, "cut_after", at)
                payment = await made.terminal.authorize(AuthorizeRequest(f"r-{at}", AMOUNT), lambda _: None)
                made.on_line = None
                assert not isinstance(payment, (NotStarted, Declined))
                await made.ready()
                found = await made.terminal.enquire(EnquiryRequest(f"r-{at}", AMOUNT, ""))
                assert isinstance(found, Found), found
                assert found.by_reference
            booked = [t.reference for t in made.simulator.ledger.transactions]
            assert len(booked) == len(set(booked))

    run(main())


def test_a_terminal_that_hangs_up_and_then_goes_starts_nothing() -> None:
    async def main() -> None:
        async with hanging_up() as made:
            await made.simulator.unplug()
            outcome = await made.terminal.authorize(AuthorizeRequest("a", AMOUNT), lambda _: None)
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "terminal_unreachable"
            await made.until(lambda: made.terminal.status.state is DeviceState.GONE, "gone", 60)
            made.simulator.replug()
            await made.ready()
            assert isinstance((await made.pay(AMOUNT)).outcome, Approved)

    run(main())
