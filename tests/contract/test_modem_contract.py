"""What a modem driver must keep, whatever its line does: against its own simulator, in virtual time.

A message that is told to be sent left once, one that is refused did not leave, and none ever leaves twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.faces import RunnerModem
from drivers.gsm_modem import GsmModem
from drivers.kit.bench import PeripheralBench, Spoil, peripheral_bench
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from drivers.sim.modem import ModemSimulator
from hubd.model.device import DeviceKind, DeviceState
from hubd.model.sms import IncomingSms, ModemCondition, SmsOutcome, SmsRefused, SmsReport, SmsSent, SmsUnknown
from tests.contract.terminal_bench import REGISTRY

URL = "serial:///dev/modem?baud=115200&stop_bits=1"
NUMBER, TEXT = "+33612345678", "Votre commande est prête."
LATE_S = (1.0, 6.0, 30.0, 70.0)
directed = pytest.mark.parametrize("direction", ["hub", "device"])


class Bench:
    """A bench and the face of its modem."""

    def __init__(self, made: PeripheralBench[ModemSimulator]) -> None:
        assert isinstance(made.face, RunnerModem)
        self.made, self.modem = made, made.face
        self.simulator, self.clock = made.simulator, made.clock
        self.heard: list[SmsReport | None] = []
        self.modem.listen(self.heard.append)

    def spoil(self, direction: str, spoil: Spoil | None) -> None:
        self.made.line.watch(spoil if direction == "hub" else None, spoil if direction == "device" else None)

    async def send(self, text: str = TEXT, *, altered: bool = False) -> SmsOutcome:
        """Send, and hold what is said to what has left. `altered`: the line may have changed the text itself."""
        before = len(self.simulator.sent)
        said = await self.modem.send(NUMBER, text, "message-1")
        left = self.simulator.sent[before:]
        if isinstance(said, SmsRefused):
            assert left == []
        else:
            wanted = len(said.references)
            assert len(left) == wanted if isinstance(said, SmsSent) else len(left) >= wanted
        whole = "".join(one.text for one in left)
        assert altered or (whole == text if isinstance(said, SmsSent) else text.startswith(whole)), "it left twice"
        assert len(left) <= max(1, len({one.part.number for one in left})), "a part left twice"
        return said

    async def recovered(self) -> None:
        """On a line that is well again, it sends again."""
        for line in self.made.lines:
            line.watch()
        for _ in range(4):
            await self.made.ready()
            if isinstance(await self.send(), SmsSent):
                return
        raise AssertionError("it did not recover")


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    async with peripheral_bench(GsmModem, URL, ModemSimulator) as made:
        yield Bench(made)


def nth(index: int, deliver: Callable[[bytes], list[Delivery]]) -> Spoil:
    return lambda n, data: deliver(data) if n == index else [Delivery(data)]


def blocks_of_a_message(direction: str) -> list[bytes]:
    async def main() -> list[bytes]:
        async with bench() as made:
            made.made.line.watch()
            assert isinstance(await made.send(), SmsSent)
            line = made.made.line
            return list(line.hub_blocks if direction == "hub" else line.device_blocks)

    return run(main())


def send_with(direction: str, spoil: Spoil, *, altered: bool = False) -> SmsOutcome:
    """Send on a spoiled line; then the line is well and it must work."""

    async def main() -> SmsOutcome:
        async with bench() as made:
            made.spoil(direction, spoil)
            said = await made.send(altered=altered)
            await made.recovered()
            return said

    return run(main())


def test_every_registered_modem_driver_is_under_this_contract() -> None:
    manifests = [entry.manifest for entry in REGISTRY.entries]
    assert [one.id for one in manifests if one and one.kind is DeviceKind.MODEM] == ["gsm_modem"]


@pytest.mark.parametrize("text", ["Bonjour", "é à € {[]}", "Ça coûte 3 €, œuf", "x" * 161, "漢字" * 60, "😀" * 40])
def test_sends_any_text(text: str) -> None:
    async def main() -> None:
        async with bench() as made:
            assert made.modem.condition == ModemCondition(registered=True, roaming=False, signal_dbm=-73)
            said = await made.send(text)
            assert isinstance(said, SmsSent)
            assert {one.number for one in made.simulator.sent} == {NUMBER}
            assert all(one.report for one in made.simulator.sent)

    run(main())


@pytest.mark.parametrize(("number", "text"), [("0612345678", "x"), ("+33", "x"), (NUMBER, ""), (NUMBER, "x" * 1531)])
def test_what_cannot_be_sent_is_refused_before_a_byte_left(number: str, text: str) -> None:
    async def main() -> None:
        async with bench() as made:
            made.made.line.watch()
            said = await made.modem.send(number, text, "m")
            assert isinstance(said, SmsRefused)
            assert (said.reason, said.permanent) == ("text_unusable", True)
            assert (made.made.line.hub_blocks, made.modem.status.state) == ([], DeviceState.READY)

    run(main())


@pytest.mark.parametrize("fault", ["refuse_prompt", "refuse_message"])
@pytest.mark.parametrize(
    ("code", "reason", "permanent"),
    [
        (38, "network_out_of_order", False), (41, "network_failure", False), (42, "network_congested", False),
        (21, "rejected", True), (27, "destination_out_of_order", True), (28, "subscriber_unknown", True),
        (30, "subscriber_unknown", True),
    ],
)  # fmt: skip
def test_refusals_say_whether_another_try_helps(fault: str, code: int, reason: str, permanent: bool) -> None:
    async def main() -> None:
        async with bench() as made:
            made.simulator.faults.set(fault, code)
            said = await made.send()
            assert isinstance(said, SmsRefused)
            assert (said.reason, said.permanent) == (reason, permanent)
            made.simulator.faults.clear()
            await made.recovered()

    run(main())


@pytest.mark.parametrize(
    ("fault", "value"),
    [("refuse_message", 332), ("refuse_message", 500), ("mute_after_text", True), ("plain_error", True)],
)
def test_what_the_modem_does_not_say_clearly_is_unknown_and_never_sent_again(fault: str, value: object) -> None:
    async def main() -> None:
        async with bench() as made:
            made.simulator.faults.set(fault, value)
            assert isinstance(await made.send(), SmsUnknown)
            sent = len(made.simulator.sent)
            await made.clock.sleep(600)
            assert len(made.simulator.sent) == sent
            made.simulator.faults.clear()
            await made.recovered()

    run(main())


def test_an_old_reference_is_no_word_for_a_new_message() -> None:
    async def main() -> None:
        async with bench() as made:
            made.simulator.faults.same_reference = True
            assert isinstance(await made.send(), SmsSent)
            said = await made.send()
            assert isinstance(said, SmsUnknown)
            assert said.reason == "old_reference"

    run(main())


def test_a_long_message_of_which_a_part_is_missing_is_unknown() -> None:
    async def main() -> None:
        async with bench() as made:
            made.spoil("device", lambda n, data: [Delivery(data if n < 2 else b"\r\n+CMS ERROR: 38\r\n")])
            said = await made.send("x" * 200)
            assert isinstance(said, SmsUnknown)
            assert (said.reason, len(said.references)) == ("sent_in_part", 1)

    run(main())


@directed
def test_blocks_split_at_every_byte_change_nothing(direction: str) -> None:
    for split in range(1, max(2, *map(len, blocks_of_a_message(direction)))):

        def cut_in_two(_: int, data: bytes, split: int = split) -> list[Delivery]:
            return [Delivery(data[:split]), Delivery(data[split:], 0.05)]

        assert isinstance(send_with(direction, cut_in_two), SmsSent), split


@directed
def test_every_lost_block_is_unknown_or_a_refusal(direction: str) -> None:
    for index in range(len(blocks_of_a_message(direction))):
        assert not isinstance(send_with(direction, nth(index, lambda _: [])), SmsSent)


@directed
@pytest.mark.parametrize("apart_s", [0.0, 0.04, 1.0, 3.0])
def test_every_doubled_block_is_harmless(direction: str, apart_s: float) -> None:
    for index in range(len(blocks_of_a_message(direction))):
        send_with(direction, nth(index, lambda data: [Delivery(data), Delivery(data, apart_s)]))


@directed
@pytest.mark.parametrize("late_s", LATE_S)
def test_every_late_block_is_told_as_it_was(direction: str, late_s: float) -> None:
    for index in range(len(blocks_of_a_message(direction))):
        send_with(direction, nth(index, lambda data: [Delivery(data, late_s)]))


@directed
def test_every_flipped_bit_leaves_the_count_right(direction: str) -> None:
    for index, block in enumerate(blocks_of_a_message(direction)):
        for at in range(len(block)):
            for bit in range(8):

                def flip(data: bytes, at: int = at, bit: int = bit) -> list[Delivery]:
                    return [Delivery(data[:at] + bytes((data[at] ^ (1 << bit),)) + data[at + 1 :])]

                send_with(direction, nth(index, flip), altered=True)


@directed
def test_a_line_cut_at_every_byte_is_told_as_it_was(direction: str) -> None:
    async def main(cut_after: int) -> None:
        async with bench() as made:
            end = made.made.line.hub if direction == "hub" else made.made.line.device
            end.cut_after = end.bytes_written + cut_after
            await made.send()
            await made.recovered()

    for cut_after in range(1, sum(map(len, blocks_of_a_message(direction))) + 2):
        run(main(cut_after))


def test_messages_are_deleted_once_they_are_committed_and_not_before() -> None:
    async def main() -> None:
        async with bench() as made:
            await made.simulator.receive("+33700000001", "STOP")
            await made.simulator.receive("+33700000002", "é" * 200)
            await made.made.until(lambda: made.heard == [None] * 3, "news of messages")
            got: list[IncomingSms] = []

            async def commit(message: IncomingSms) -> None:
                assert made.simulator.deleted == list(range(1, len(got) + 1))
                if len(got) == 1:
                    raise RuntimeError("disk full")
                got.append(message)

            with pytest.raises(RuntimeError, match="disk full"):
                await made.modem.take(commit)
            assert sorted(made.simulator.stored) == [2, 3]
            await made.made.ready()

            async def keep(message: IncomingSms) -> None:
                got.append(message)

            assert await made.modem.take(keep) == 2
            assert [one.number for one in got] == ["+33700000001", "+33700000002", "+33700000002"]
            assert "".join(one.text for one in got[1:]) == "é" * 200
            assert [(one.part, one.parts) for one in got[1:]] == [(1, 2), (2, 2)]
            assert made.simulator.stored == {}

    run(main())


def test_what_took_the_place_of_a_committed_message_is_not_deleted() -> None:
    async def main() -> None:
        async with bench() as made:
            await made.simulator.receive("+33700000001", "first")

            async def commit(_: IncomingSms) -> None:
                made.simulator.stored.clear()
                await made.simulator.receive("+33700000001", "second")

            assert await made.modem.take(commit) == 0
            assert (list(made.simulator.stored), made.simulator.deleted) == ([1], [])

    run(main())


def test_a_text_that_an_older_hub_has_begun_is_left_and_not_sent() -> None:
    async def main() -> None:
        async with bench() as made:
            await made.made.line.hub.write(b"AT+CMGS=20\r")
            await made.clock.sleep(1)
            await made.made.line.hub.close()
            await made.made.until(lambda: made.modem.status.state is not DeviceState.READY, "a lost line")
            await made.recovered()
            assert len(made.simulator.sent) == 1

    run(main())


@pytest.mark.parametrize(("status", "delivered"), [(0x00, True), (0x01, True), (0x20, None), (0x46, False)])
def test_delivery_reports_name_the_reference(status: int, delivered: bool | None) -> None:
    async def main() -> None:
        async with bench() as made:
            said = await made.send()
            assert isinstance(said, SmsSent)
            await made.simulator.report(said.references[0], status)
            report = SmsReport(said.references[0], NUMBER, delivered)
            await made.made.until(lambda: made.heard == [report], "the report")
            assert isinstance(await made.send(), SmsSent)

    run(main())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pin": "SIM PIN"}, "sim_pin_needed"), ({"pin": "SIM PUK"}, "sim_puk_needed"), ({"pin": ""}, "sim_missing"),
        ({"registration": 2}, "searching_network"), ({"registration": 3}, "registration_denied"),
        ({"registration": 0}, "no_network"),
    ],
)  # fmt: skip
def test_what_keeps_it_from_sending_is_shown_with_a_remedy(change: dict[str, object], problem: str) -> None:
    async def main() -> None:
        async with bench() as made:
            well = {name: getattr(made.simulator, name) for name in change}
            for name, value in change.items():
                setattr(made.simulator, name, value)
            await made.made.until(lambda: made.modem.status.problem == problem, problem)
            assert made.modem.status.remedy
            assert isinstance(await made.send(), SmsRefused)
            for name, value in well.items():
                setattr(made.simulator, name, value)
            await made.recovered()

    run(main())


def test_a_modem_that_was_unplugged_comes_back() -> None:
    async def main() -> None:
        async with bench() as made:
            await made.simulator.control({"cmd": "unplug"})
            await made.made.until(lambda: made.modem.status.state is DeviceState.GONE, "a modem that is gone")
            said = await made.send()
            assert isinstance(said, SmsRefused)
            assert (said.reason, said.permanent) == ("unreachable", False)
            await made.simulator.control({"cmd": "replug"})
            await made.recovered()

    run(main())


@pytest.mark.parametrize("fault", ["silent", "babble"])
def test_a_line_without_a_modem_is_not_ready(fault: str) -> None:
    async def main() -> None:
        async with bench() as made:
            made.simulator.faults.set(fault, True)
            await made.made.until(lambda: made.modem.status.state is not DeviceState.READY, "a lost modem")
            assert isinstance(await made.send(), SmsRefused)
            made.simulator.faults.clear()
            await made.recovered()

    run(main())
