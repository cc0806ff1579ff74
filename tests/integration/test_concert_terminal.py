"""The Concert driver on real lines against the simulator as a program, and somebody else's client against both."""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251 - messages to compare with another implementation, from one seed
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.concert import ConcertTerminal
from drivers.concert_codec import (
    CURRENCY_NUMBERS,
    FORCE_ONLINE,
    FULL_ANSWER,
    REPORT_CHARACTERS,
    SHORT_ANSWER,
    TERMINAL_DECIDES,
    Frame,
    FrameReader,
    PaymentAnswer,
    PaymentRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_frame,
    encode_request,
    reference_of,
)
from drivers.faces import RunnerTerminal, face_of
from drivers.runner import Runner
from drivers.transport import open_transport
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import Approved, AuthorizeRequest, Declined, NotStarted, Outcome, Unknown
from hubd.runtime import system_runtime
from tests.rigs.process import Child, free_port, run, wait_until

START_TIMEOUT_S = 20.0
STATE_TIMEOUT_S = 20.0
CLIENT_TIMEOUT_S = 50.0
RUNTIME = system_runtime()
ROOT = Path(__file__).parents[2]
CLIENT_AMOUNTS_MINOR = (100, 9_999_999)
"""What the other client takes: its own limits, not the protocol's."""


class Simulator:
    """The simulator's process with its address and its books."""

    def __init__(self, directory: Path, line: str) -> None:
        self._ledger = directory / "ledger"
        self.tty = directory / "tty"
        where = ["--tcp", f"127.0.0.1:{free_port()}"] if line == "tcp" else ["--pty", str(self.tty)]
        program = [sys.executable, "-m", "drivers.sim.concert", *where, "--state-file", str(self._ledger)]
        self.child = Child(program, cwd=ROOT)

    def start(self) -> str:
        """Start (again) and return the address."""
        self.child.start()
        self.child.wait_for_text('"address"', START_TIMEOUT_S)
        address: str = json.loads(self.child.stdout().splitlines()[-1])["address"]
        return address

    def ledger(self) -> list[tuple[int, str]]:
        """Amounts and states by the terminal's own books."""
        lines = map(json.loads, self._ledger.read_text("utf-8").splitlines())
        return [(entry["amount_minor"], entry["state"]) for entry in lines]


@pytest.fixture(params=["tcp", "pty"])
def simulator(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Simulator(tmp_path, request.param)
    yield made
    made.child.close()


@pytest.fixture
def simulator_on_pty(tmp_path: Path) -> Any:
    made = Simulator(tmp_path, "pty")
    made.start()
    yield made
    made.child.close()


@asynccontextmanager
async def shop(url: str) -> AsyncIterator[Runner]:
    runner = Runner("t1", ConcertTerminal, url, open_transport, RUNTIME, lambda _, __: None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run(), name="runner")
        try:
            await ready(runner)
            yield runner
        finally:
            task.cancel()


async def ready(runner: Runner) -> None:
    await wait_until(lambda: runner.status().state is DeviceState.READY, STATE_TIMEOUT_S, "a ready terminal")


async def pay(runner: Runner, amount_minor: int) -> Outcome:
    request = AuthorizeRequest(f"payment-{amount_minor}", Money(amount_minor, "EUR"))
    terminal = face_of(runner)
    assert isinstance(terminal, RunnerTerminal)
    return await terminal.authorize(request, lambda _: None)


async def test_payments_on_a_real_line(simulator: Simulator) -> None:
    async with shop(simulator.start()) as runner:
        assert isinstance(await pay(runner, 2040), Approved)
        assert isinstance(await pay(runner, 1005), Declined)
        assert isinstance(await pay(runner, 1020), NotStarted)
        assert isinstance(await pay(runner, 1013), Unknown)
        simulator.child.kill()
        simulator.start()
        await wait_until(lambda: _paid(runner, 700), STATE_TIMEOUT_S, "a payment at the terminal that came back")
    assert simulator.ledger() == [(2040, "approved"), (1005, "declined"), (1013, "approved"), (700, "approved")]
    assert simulator.child.stop() == 0


async def _paid(runner: Runner, amount_minor: int) -> bool:
    outcome = await pay(runner, amount_minor)
    assert isinstance(outcome, (Approved, NotStarted)), outcome
    return isinstance(outcome, Approved)


# -- somebody else's client --------------------------------------------------------------------------------------------


def client(**request: object) -> Any:
    """What pyTeliumManager says to one request."""
    program = Path(__file__).parents[1] / "rigs" / "telium_client.py"
    return json.loads(run(sys.executable, program, json.dumps(request), timeout_s=CLIENT_TIMEOUT_S).stdout)


def a_payment(amount_minor: int, *, full: bool = False) -> dict[str, Any]:
    return {"amount_minor": amount_minor, "currency": "EUR", "pos_number": "01", "full": full, "online": False}


@pytest.mark.parametrize("full", [False, True])
def test_another_client_pays_at_our_terminal(simulator_on_pty: Simulator, full: bool) -> None:
    paid = {"amount_minor": 1250, "currency_number": "978", "pos_number": "01", "mode": "1", "private": " " * 10}
    tty = str(simulator_on_pty.tty)
    answer = client(pay=tty, ask=a_payment(1250, full=full))
    assert answer == {"ready": True, "taken": True, "result": "0", **paid}
    assert client(pay=tty, ask=a_payment(1005))["result"] == "7"
    assert client(pay=tty, ask=a_payment(1020)) == {"ready": True, "taken": False}
    assert simulator_on_pty.ledger() == [(1250, "approved"), (1005, "declined")]


def requests_of(rng: random.Random) -> list[PaymentRequest]:
    """Requests that both know: the other client has no private field and other limits for amounts."""
    amounts = [*CLIENT_AMOUNTS_MINOR, *(rng.randint(*CLIENT_AMOUNTS_MINOR) for _ in range(300))]
    return [
        PaymentRequest(
            f"{rng.randint(0, 99):02d}",
            amount,
            rng.choice(sorted(CURRENCY_NUMBERS)),
            answer=rng.choice([SHORT_ANSWER, FULL_ANSWER]),
            authorization=rng.choice([TERMINAL_DECIDES, FORCE_ONLINE]),
        )
        for amount in amounts
    ]


def hexed(frame: Frame) -> str:
    return encode_frame(frame).hex(" ")


def framed(text: str) -> Frame:
    (frame,) = FrameReader().feed(bytes.fromhex(text))
    assert isinstance(frame, Frame)
    return frame


def test_requests_are_the_same_bytes_as_another_clients() -> None:
    ours = requests_of(random.Random(2))
    said = [
        {
            "amount_minor": one.amount_minor,
            "currency": one.currency,
            "pos_number": one.pos_number,
            "full": one.answer == FULL_ANSWER,
            "online": one.authorization == FORCE_ONLINE,
        }
        for one in ours
    ]
    theirs = client(encode_asks=said)
    assert theirs == [hexed(encode_request(one)) for one in ours]
    assert [decode_request(framed(text)) for text in theirs] == ours
    read = client(decode_asks=[hexed(encode_request(one)) for one in ours])
    assert read == [
        {
            **{key: value for key, value in fields.items() if key != "currency"},
            "currency_number": CURRENCY_NUMBERS[one.currency],
            "mode": "1",
            "kind": "0",
            "delay": "A010",
        }
        for one, fields in zip(ours, said, strict=True)
    ]


def test_answers_are_the_same_bytes_as_another_clients() -> None:
    rng = random.Random(3)
    ours = [
        PaymentAnswer(
            f"{rng.randint(0, 99):02d}",
            rng.choice("0791"),
            rng.randint(*CLIENT_AMOUNTS_MINOR),
            rng.choice("1C20"),
            rng.choice(sorted(CURRENCY_NUMBERS.values())),
            rng.choice(["", reference_of(str(number))]),
        )
        for number in range(200)
    ]
    reports = [rng.choice(["", "4111111111111111 ".ljust(REPORT_CHARACTERS, "0")]) for _ in ours]
    said = [
        {
            "pos_number": one.pos_number,
            "result": one.result,
            "amount_minor": one.amount_minor,
            "mode": one.mode,
            "currency_number": one.currency_number,
            "private": one.reference or " " * 10,
        }
        for one in ours
    ]
    both = list(zip(said, reports, strict=True))
    theirs = client(encode_answers=[{**fields, "report": report} for fields, report in both])
    mine = [hexed(encode_answer(one, report=report)) for one, report in zip(ours, reports, strict=True)]
    assert theirs == mine
    assert [decode_answer(framed(text)) for text in theirs] == ours
    assert client(decode_answers=mine) == said
