"""The Concert driver where the contract of all terminals has no word: sessions, repeats, late and second answers."""

from __future__ import annotations

import asyncio
import logging
import random  # noqa: TID251 - a terminal that a test plays by hand needs a Runtime made here
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from drivers.base import DriverOptions, Lines
from drivers.concert import ANSWER_REPEATS_MAX, ANSWER_TIMEOUT_S, ENQ_REPEATS_MAX, ConcertTerminal
from drivers.concert_codec import (
    FORCE_ONLINE,
    REPORT_CHARACTERS,
    TERMINAL_DECIDES,
    Frame,
    PaymentAnswer,
    encode_answer,
    encode_frame,
    reference_of,
)
from drivers.concert_link import EVENTS_WAITING_MAX, ConcertLink
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.link import LineLostError
from drivers.runner import accept_none
from drivers.sim.concert import ConcertSimulator
from hubd.errors import DeviceError
from hubd.model.device import Capability
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    ByteStream,
    Declined,
    EnquiryRequest,
    Inconclusive,
    NotStarted,
    Outcome,
    Progress,
    ReverseRequest,
    Unknown,
)
from hubd.runtime import Runtime, SystemIds
from tests.contract.terminal_bench import bench

AMOUNT = Money(1250, "EUR")
SERIAL = "serial:///dev/terminal"
ENQ, ACK, NAK, EOT = b"\x05", b"\x06", b"\x15", b"\x04"
FRAME_BYTES = 37


def answer(result: str = "0", reference: str = "payment-1", private: str = "", report: str = "") -> bytes:
    fields = PaymentAnswer("01", result, AMOUNT.amount_minor, "1", "978", "" if private else reference_of(reference))
    return encode_frame(encode_answer(fields, private, report))


def runtime() -> Runtime:
    return Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16)


async def no_line() -> ByteStream:
    raise OSError("there is one line")


class ByHand:
    """A driver on one line, whose other end a test plays."""

    def __init__(self, options: DriverOptions | None = None) -> None:
        world = runtime()
        self.clock = world.clock
        self.driver = ConcertTerminal(world, options)
        hub, self.device = memory_pipe()
        self.driver.attach(hub, SERIAL, Lines(no_line, lambda port, serve: accept_none(port, "terminal", serve)))
        self.progress: list[Progress] = []
        self.heard = b""

    async def pay(self) -> Outcome:
        return await self.driver.authorize(AuthorizeRequest("payment-1", AMOUNT), self.progress.append)

    async def expect(self, *wanted: bytes) -> None:
        for data in wanted:
            got = b""
            while len(got) < len(data):
                got += await self.device.read(len(data) - len(got))
            assert got == data

    async def take_frame(self) -> bytes:
        await self.expect(ENQ)
        await self.device.write(ACK)
        frame = b""
        while len(frame) < FRAME_BYTES:
            frame += await self.device.read(FRAME_BYTES - len(frame))
        return frame


async def listen_only(_: ByHand) -> None:
    """The test itself plays the terminal."""


Play = Callable[[ByHand], Awaitable[None]]


@asynccontextmanager
async def by_hand(play: Play = listen_only, options: DriverOptions | None = None) -> AsyncIterator[ByHand]:
    made = ByHand(options)

    async def device() -> None:
        await play(made)

    async with asyncio.TaskGroup() as group:
        group.create_task(made.driver.pump(), name="pump")
        played = group.create_task(device(), name="device")
        yield made
        await played
        await made.driver.close()


def pay_by_hand(play: Play, *, usable: bool) -> Outcome:
    async def main() -> Outcome:
        async with by_hand(play) as made:
            outcome = await made.pay()
            assert made.driver.usable is usable
        return outcome

    return run(main())


async def silent_device(device: MemoryStream) -> bytes:
    """All that the hub ever says to a terminal that says nothing."""
    heard = b""
    try:
        while data := await device.read(100):
            heard += data
    except OSError:
        pass
    return heard


# -- before the frame --------------------------------------------------------------------------------------------------


def test_silence_before_the_frame_starts_nothing() -> None:
    async def main() -> bytes:
        async with by_hand() as made, asyncio.TaskGroup() as group:
            listening = group.create_task(silent_device(made.device), name="device")
            outcome = await made.pay()
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "terminal_unreachable"
            assert made.clock.monotonic() < 12
            assert not made.driver.usable
            await made.driver.close()
        return listening.result()

    assert run(main()) == ENQ + (EOT + ENQ) * ENQ_REPEATS_MAX


def test_a_terminal_that_refuses_the_session_is_busy_and_may_be_asked_again() -> None:
    async def play(made: ByHand) -> None:
        await made.expect(ENQ)
        await made.device.write(NAK + NAK)

    outcome = pay_by_hand(play, usable=True)
    assert isinstance(outcome, NotStarted)
    assert outcome.reason == "terminal_busy"


def test_what_came_while_nobody_asked_opens_no_session() -> None:
    async def play(made: ByHand) -> None:
        await made.device.write(ACK)
        await made.expect(ENQ)
        await made.device.write(NAK)

    async def main() -> None:
        async with by_hand(play) as made:
            await made.clock.sleep(1)
            assert isinstance(await made.pay(), NotStarted)
            assert made.driver.usable

    run(main())


def test_the_frame_waits_until_the_line_is_quiet() -> None:
    """An echo of the first ACK must not be taken for the answer to the frame, which is NAK here."""

    async def play(made: ByHand) -> None:
        await made.expect(ENQ)
        await made.device.write(ACK)
        await made.clock.sleep(0.2)
        await made.device.write(ACK)
        await made.device.read(FRAME_BYTES)
        await made.device.write(NAK)
        await made.expect(EOT)

    assert isinstance(pay_by_hand(play, usable=True), NotStarted)


def test_cancellation_before_the_frame_ends_the_session() -> None:
    async def main() -> None:
        async with by_hand() as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(), name="pay")
            await made.expect(ENQ)
            paying.cancel()
            await made.expect(EOT)
            await asyncio.wait({paying})
            assert paying.cancelled()
            assert not made.driver.usable

    run(main())


@pytest.mark.parametrize("amount", [Money(100_000_000, "EUR"), Money(0, "EUR"), Money(1000, "JPY")])
def test_an_amount_that_the_protocol_cannot_say_is_refused_at_once(amount: Money) -> None:
    async def main() -> None:
        async with by_hand() as made:
            outcome = await made.driver.authorize(AuthorizeRequest("payment-1", amount), made.progress.append)
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "amount_refused"
            assert made.driver.usable

    run(main())


# -- the frame and its answer ------------------------------------------------------------------------------------------


def test_the_frame_leaves_once_although_it_is_never_answered() -> None:
    async def main() -> bytes:
        async with by_hand() as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(), name="pay")
            await made.take_frame()
            listening = group.create_task(silent_device(made.device), name="device")
            assert await paying == Unknown("no_answer")
            assert made.clock.monotonic() >= ANSWER_TIMEOUT_S
            await made.driver.close()
        return listening.result()

    assert run(main()) == b"", "silence was answered with more than listening"


def test_a_refused_frame_is_not_sent_again() -> None:
    async def play(made: ByHand) -> None:
        await made.take_frame()
        await made.device.write(NAK + NAK)
        await made.expect(EOT)

    outcome = pay_by_hand(play, usable=True)
    assert isinstance(outcome, NotStarted)
    assert outcome.reason == "not_taken"


@pytest.mark.parametrize("contradiction", [ACK, ENQ])
def test_a_refusal_that_is_contradicted_is_not_believed(contradiction: bytes) -> None:
    async def play(made: ByHand) -> None:
        await made.take_frame()
        await made.device.write(NAK)
        await made.clock.sleep(0.5)
        await made.device.write(contradiction)
        await made.device.read(1)

    assert pay_by_hand(play, usable=False) == Unknown("no_answer")


def test_an_answer_without_an_invitation_is_not_looked_at() -> None:
    async def play(made: ByHand) -> None:
        await made.take_frame()
        await made.device.write(ACK + answer("7"))
        await made.expect(EOT)

    assert pay_by_hand(play, usable=False) == Unknown("no_answer")


def test_a_spoiled_answer_is_asked_for_again_so_often_and_no_more() -> None:
    async def play(made: ByHand) -> None:
        await made.take_frame()
        await made.device.write(ACK + ENQ)
        await made.expect(EOT, ACK)
        for _ in range(ANSWER_REPEATS_MAX):
            await made.device.write(answer()[:-1] + b"\x7f")
            await made.expect(NAK)
        await made.device.write(answer()[:-1] + b"\x7f")

    assert pay_by_hand(play, usable=False) == Unknown("answer_unreadable")


@pytest.mark.parametrize(
    ("second", "verdict"), [(answer("0"), Approved), (answer("7"), Unknown), (answer("0", "payment-2"), Unknown)]
)
def test_a_second_answer_must_be_the_first_again(second: bytes, verdict: type[Outcome]) -> None:
    async def play(made: ByHand) -> None:
        await made.take_frame()
        await made.device.write(ACK + ENQ)
        await made.expect(EOT, ACK)
        await made.device.write(answer("0") + second)
        await made.expect(ACK)
        await made.device.write(EOT)

    outcome = pay_by_hand(play, usable=verdict is Approved)
    assert isinstance(outcome, verdict)


def test_an_answer_stands_although_its_end_never_comes() -> None:
    async def play(made: ByHand) -> None:
        await made.take_frame()
        await made.device.write(ACK + ENQ)
        await made.expect(EOT, ACK)
        await made.device.write(answer("7"))

    assert isinstance(pay_by_hand(play, usable=False), Declined)


def test_a_full_answer_is_taken_and_its_report_is_not() -> None:
    async def play(made: ByHand) -> None:
        await made.take_frame()
        await made.device.write(ACK + ENQ)
        await made.expect(EOT, ACK)
        await made.device.write(answer(report="4111111111111111".ljust(REPORT_CHARACTERS)))
        await made.expect(ACK)
        await made.device.write(EOT)

    outcome = pay_by_hand(play, usable=True)
    assert isinstance(outcome, Approved)
    assert "411111" not in repr(outcome)


def test_the_short_answer_is_asked_for() -> None:
    async def main(options: DriverOptions) -> bytes:
        async with by_hand(options=options) as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(), name="pay")
            frame = await made.take_frame()
            paying.cancel()
        return frame

    private = reference_of("payment-1").encode()
    for options, pos, authorization in (
        ({}, b"01", TERMINAL_DECIDES),
        ({"pos_number": "07", "authorization": "online"}, b"07", FORCE_ONLINE),
    ):
        frame = run(main(options))
        assert frame[1:-2] == pos + b"00001250" + b"010" + b"978" + private + b"A010" + authorization.encode()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"pos_number": "1"}, "device.option_invalid"),
        ({"pos_number": "١٢"}, "device.option_invalid"),
        ({"authorization": "never"}, "device.option_invalid"),
        ({"currency": "JPY"}, "device.currency_unknown"),
    ],
)
def test_an_unusable_option_is_named(options: DriverOptions, code: str) -> None:
    with pytest.raises(DeviceError) as caught:
        ConcertTerminal(runtime(), options)
    assert caught.value.code == code


def test_what_the_protocol_cannot_do_is_refused_without_a_byte() -> None:
    async def main() -> bytes:
        async with by_hand() as made, asyncio.TaskGroup() as group:
            listening = group.create_task(silent_device(made.device), name="device")
            driver = made.driver
            assert driver.capabilities == {Capability.PAY}
            assert await driver.baseline() == ""
            assert await driver.abort() is False
            assert isinstance(await driver.enquire(EnquiryRequest("p", AMOUNT, "")), Inconclusive)
            reversal = await driver.reverse(ReverseRequest("p", AMOUNT, "0001"), made.progress.append)
            assert isinstance(reversal, NotStarted)
            assert (await driver.send_offline()).complete is False
            for refused in (driver.end_of_day, driver.diagnose):
                with pytest.raises(DeviceError, match=r"device\.not_supported"):
                    await refused()
            await driver.close()
        return listening.result()

    assert run(main()) == b""


# -- against the simulator ---------------------------------------------------------------------------------------------


def simulator_of(simulator: object) -> ConcertSimulator:
    assert isinstance(simulator, ConcertSimulator)
    return simulator


@pytest.mark.parametrize(
    ("fault", "verdict"), [("not_verified", Unknown), ("no_echo", Approved), ("full_answer", Approved)]
)
def test_what_this_protocols_terminals_do(fault: str, verdict: type[Outcome]) -> None:
    async def main() -> None:
        async with bench("concert", SERIAL) as made:
            made.simulator.faults.set(fault, True)
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, verdict), payment.outcome
            payment.judge(AMOUNT)
            assert simulator_of(made.simulator).requests[0].private == reference_of("payment-1")

    run(main())


def test_the_answer_to_a_lost_payment_is_heard_and_is_not_the_next_ones(caplog: pytest.LogCaptureFixture) -> None:
    """The cable is out while the customer pays, and the terminal tells it once the line is there again."""
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        async with bench("concert", SERIAL) as made, asyncio.TaskGroup() as group:
            made.simulator.options = replace(made.simulator.options, keeps_going=True, think_s=20.0)
            made.simulator.faults.set("answers_late", True)
            made.simulator.faults.set("no_echo", True)
            paying = group.create_task(made.pay(AMOUNT), name="pay")
            await made.clock.sleep(10)
            made.line.hub.cut()
            assert isinstance((await paying).outcome, Unknown)
            await made.clock.sleep(60)
            await made.ready()
            second = await made.pay(Money(1005, "EUR"))
            assert isinstance(second.outcome, Declined)
            second.judge(Money(1005, "EUR"))

    run(main())
    (late,) = [record for record in caplog.records if record.message == "device.late_answer"]
    assert (late.__dict__["amount_minor"], late.__dict__["result"]) == (1250, "0")


# -- the link ----------------------------------------------------------------------------------------------------------


def test_a_frame_that_stops_in_the_middle_does_not_swallow_what_follows() -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        clock = VirtualClock()
        link = ConcertLink(hub, clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="pump")
            await device.write(answer()[:7])
            assert not isinstance(await link.receive(5), Frame)
            await device.write(answer())
            assert isinstance(await link.receive(1), Frame)
            await link.close()

    run(main())


def test_a_device_that_pours_out_signals_loses_its_line() -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        link = ConcertLink(hub, VirtualClock())
        await device.write(ENQ * (EVENTS_WAITING_MAX + 1))
        assert await link.pump() == "babble"
        with pytest.raises(LineLostError, match="babble"):
            await link.send(Frame(b"x"))

    run(main())
