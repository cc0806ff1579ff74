"""The nexo driver against terminals that answer what a test wants, and against its simulator where books matter."""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251 - the tests make the Runtime that the driver is given
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from drivers.base import PASSWORD, Lines
from drivers.http_line import IDLE_END_S
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.nexo import NOT_FOUND_AGAIN_S, REVERSAL_ATTEMPTS_MAX, NexoOptions, NexoTerminal
from drivers.nexo_codec import REQUEST, RESPONSE, Header, decode_message, encode_message
from drivers.nexo_crypto import NexoKey
from drivers.runner import accept_none
from drivers.sim.http_server import ServerLine
from drivers.sim.nexo import NexoSimulator
from hubd.errors import DeviceError
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Declined,
    Enquiry,
    EnquiryRequest,
    FlushResult,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    ReverseRequest,
    StillRunning,
    Stored,
    Unknown,
)
from hubd.runtime import Runtime
from tests.contract.terminal_bench import Bench, bench
from tests.simulation.seeded import SeededIds
from tests.unit.drivers.test_nexo_crypto import KEY, NONCE, RECORDED

POIID = "V400m-324688179"
URL = "tls://terminal:8443"
ELSEWHERE = "the same moment at another terminal"
AMOUNT = Money(2040, "EUR")
AT = "2026-01-01T00:00:00.000Z"
RECEIPT = f"t1.p1@{AT}"
Body = dict[str, Any]
Answer = Callable[[Header, Body], bytes]


def secured(header: Header, body: Body, key: NexoKey = KEY, **changes: str) -> bytes:
    back = msgspec.structs.replace(header, message_type="Response", **changes)
    return encode_message(RESPONSE, back, body, key, NONCE)


def responding(*responses: Body) -> Answer:
    """A terminal that gives these responses in turn, the last one for ever; each without its `Response` suffix."""
    left = list(responses)

    def answer(header: Header, _: Body) -> bytes:
        body = left.pop(0) if len(left) > 1 else left[0]
        return secured(header, {f"{header.category}Response": body})

    return answer


def failure(condition: str) -> Body:
    return {"Response": {"Result": "Failure", "ErrorCondition": condition}}


def approved(reference: str = "order-1") -> Body:
    return {
        "Response": {"Result": "Success"},
        "SaleData": {"SaleTransactionID": {"TransactionID": reference, "TimeStamp": AT}},
        "POIData": {"POITransactionID": {"TransactionID": "t1.p1", "TimeStamp": AT}},
        "PaymentResult": {"OnlineFlag": True, "AmountsResp": {"Currency": "EUR", "AuthorizedAmount": 20.4}},
    }


class Terminal:
    """A terminal that answers as it is told, with the driver attached to it."""

    def __init__(self, answer: Answer, group: asyncio.TaskGroup, key: NexoKey = KEY) -> None:
        self.answer = answer
        self.heard: list[tuple[Header, Body]] = []
        self.clock = VirtualClock()
        self.refuses = False
        self._group = group
        rng = random.Random(3)
        runtime = Runtime(self.clock, SeededIds(rng), rng, b"t" * 16)
        self.driver = NexoTerminal(runtime, NexoOptions(POIID, key))

    async def open(self) -> MemoryStream:
        if self.refuses:
            raise ConnectionRefusedError("nobody listens")
        hub, device = memory_pipe()
        self._group.create_task(self._serve(device), name="device")
        return hub

    async def _serve(self, stream: MemoryStream) -> None:
        line = ServerLine(stream)
        async with asyncio.TaskGroup() as group:
            group.create_task(line.pump(), name="device:pump")
            while (request := await line.request()) is not None:
                header, raw = decode_message(REQUEST, request.body, KEY)
                body = json.loads(bytes(raw))
                self.heard.append((header, body))
                await line.respond(200, self.answer(header, body))
            await line.close()

    def sent(self, category: str) -> list[Header]:
        return [header for header, _ in self.heard if header.category == category]


def with_terminal(answer: Answer, use: Callable[[Terminal], Coroutine[Any, Any, None]], key: NexoKey = KEY) -> Terminal:
    async def main() -> Terminal:
        async with asyncio.TaskGroup() as group:
            made = Terminal(answer, group, key)
            lines = Lines(made.open, lambda port, serve: accept_none(port, "terminal", serve))
            made.driver.attach(await made.open(), URL, lines)
            group.create_task(made.driver.pump(), name="pump")
            try:
                await use(made)
            finally:
                await made.driver.close()
        return made

    return run(main())


async def pay(made: Terminal) -> Outcome:
    return await made.driver.authorize(AuthorizeRequest("order-1", AMOUNT), lambda _: None)


async def ask(made: Terminal, baseline: str | None = None) -> Enquiry:
    now = await made.driver.baseline()
    noted = now if baseline is None else now.replace(POIID, "V400m-1") if baseline == ELSEWHERE else baseline
    return await made.driver.enquire(EnquiryRequest("order-1", AMOUNT, noted))


# -- answers that are not the terminal's answer ------------------------------------------------------------------------

OTHER_KEY = NexoKey("Other", "p@ssw0rd123456")
OTHER_PASSPHRASE = NexoKey(KEY.identifier, "another")
REJECT = json.dumps({REQUEST: {"EventNotification": {"EventToNotify": "Reject"}}}).encode()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda header, _: secured(header, {"PaymentResponse": approved()}, service_id="0000000000"), "other_message"),
        (lambda header, _: secured(header, {"PaymentResponse": approved()}, poiid="V400m-1"), "other_message"),
        (lambda header, _: secured(header, {"PaymentResponse": approved()}, sale_id="other"), "other_message"),
        (lambda header, _: secured(header, {"PaymentResponse": failure("Refusal")}, OTHER_KEY), "other_key"),
        (lambda header, _: secured(header, {"PaymentResponse": failure("Busy")}, OTHER_PASSPHRASE), "not_authentic"),
        (lambda header, _: secured(header, {"ReversalResponse": failure("Refusal")}), "malformed"),
        (lambda header, _: secured(header, {}), "malformed"),
        (lambda *_: RECORDED, "other_message"),
        (lambda *_: REJECT, "malformed"),
        (lambda *_: json.dumps({RESPONSE: {"PaymentResponse": failure("Refusal")}}).encode(), "malformed"),
        (lambda *_: b"", "malformed"),
    ],
)
def test_what_is_not_the_answer_leaves_the_payment_unknown(answer: Answer, reason: str) -> None:
    async def use(made: Terminal) -> None:
        assert await pay(made) == Unknown(reason)

    assert len(with_terminal(answer, use).sent("Payment")) == 1


def test_the_answer_to_an_earlier_payment_is_not_taken_for_the_next_one() -> None:
    answers: list[bytes] = []

    def same_again(header: Header, _: Body) -> bytes:
        answers.append(secured(header, {"PaymentResponse": approved()}))
        return answers[0]

    async def use(made: Terminal) -> None:
        assert isinstance(await pay(made), Approved)
        second = await made.driver.authorize(AuthorizeRequest("order-2", AMOUNT), lambda _: None)
        assert second == Unknown("other_message")
        assert not made.driver.usable

    with_terminal(same_again, use)


@pytest.mark.parametrize(
    ("key", "reason"), [(OTHER_KEY, "other_key"), (OTHER_PASSPHRASE, "not_authentic")], ids=["key", "passphrase"]
)
def test_a_terminal_with_another_key_is_named_without_secrets(key: NexoKey, reason: str) -> None:
    async def use(made: Terminal) -> None:
        with pytest.raises(DeviceError, match=r"device\.protocol") as caught:
            await made.driver.identify()
        assert caught.value.params["reason"] == reason
        assert not {KEY.passphrase, KEY.identifier, key.passphrase} & set(str(caught.value).split())

    def answer(header: Header, _: Body) -> bytes:
        return secured(header, {"DiagnosisResponse": {"Response": {"Result": "Success"}}}, key)

    with_terminal(answer, use)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"Response": {"Result": "Success"}, "POIStatus": {"GlobalStatus": "OK"}}, ""),
        ({"Response": {"Result": "Success"}, "POIStatus": {"GlobalStatus": "Maintenance"}}, "terminal_maintenance"),
        (failure("Busy"), ""),
        (failure("InProgress"), ""),
    ],
)
def test_a_terminal_is_known_by_its_poiid_also_while_it_is_busy(said: Body, problem: str) -> None:
    async def use(made: Terminal) -> None:
        identity = await made.driver.identify()
        assert (identity.device_number, identity.problem) == (POIID, problem)

    with_terminal(responding(said), use)


@pytest.mark.parametrize(
    "missing",
    [
        {"poiid": ""},
        {"poiid": "V400m"},
        {"key_identifier": ""},
        {PASSWORD: ""},
        {PASSWORD: "pässword"},
        {"key_version": "one"},
    ],
)
def test_a_missing_option_is_named(missing: dict[str, str]) -> None:
    options = {"poiid": POIID, "key_identifier": KEY.identifier, PASSWORD: KEY.passphrase}
    rng = random.Random(1)
    runtime = Runtime(VirtualClock(), SeededIds(rng), rng, b"t" * 16)
    NexoTerminal(runtime, options)
    with pytest.raises(DeviceError, match=r"device\.option_missing"):
        NexoTerminal(runtime, {**options, **missing})


# -- enquiries ---------------------------------------------------------------------------------------------------------


def repeating(header: Header, asked: Header, name: str, body: Body) -> bytes:
    repeated = {
        "MessageHeader": msgspec.to_builtins(msgspec.structs.replace(asked, message_type="Response")),
        "RepeatedResponseMessageBody": {name: body},
    }
    said = {"Response": {"Result": "Success"}, "RepeatedMessageResponse": repeated}
    return secured(header, {"TransactionStatusResponse": said})


def asked_about(header: Header, body: Body) -> Header:
    named = body["TransactionStatusRequest"]["MessageReference"]
    return msgspec.structs.replace(header, category=named["MessageCategory"], service_id=named["ServiceID"])


def test_not_found_is_asked_again_before_it_is_believed() -> None:
    """The request was still on its way inside the terminal: the second answer finds it."""
    count = 0

    def answer(header: Header, body: Body) -> bytes:
        nonlocal count
        count += 1
        if count == 1:
            return secured(header, {"TransactionStatusResponse": failure("NotFound")})
        return repeating(header, asked_about(header, body), "PaymentResponse", approved())

    async def use(made: Terminal) -> None:
        found = await ask(made)
        assert isinstance(found, Found)
        assert found.by_reference
        assert isinstance(found.outcome, Approved)
        assert made.clock.monotonic() >= NOT_FOUND_AGAIN_S

    with_terminal(answer, use)


@pytest.mark.parametrize(
    ("responses", "baseline", "expected"),
    [
        ([failure("NotFound")], None, NotTaken),
        ([failure("NotFound"), failure("InProgress")], None, StillRunning),
        ([failure("NotFound")], "", Inconclusive),
        ([failure("NotFound")], ELSEWHERE, Inconclusive),
        ([failure("NotFound")], f"{POIID} 2025-12-01T00:00:00Z", Inconclusive),
        ([failure("InProgress")], None, StillRunning),
        ([failure("UnavailableService")], None, Inconclusive),
        ([{"Response": {"Result": "Success"}}], None, Inconclusive),
    ],
)
def test_not_taken_needs_proof(responses: list[Body], baseline: str | None, expected: type[Enquiry]) -> None:
    async def use(made: Terminal) -> None:
        assert type(await ask(made, baseline)) is expected

    assert with_terminal(responding(*responses), use).sent("Payment") == []


def test_an_enquiry_names_the_message_that_the_payment_was_sent_with() -> None:
    async def use(made: Terminal) -> None:
        made.answer = responding(approved())
        assert isinstance(await pay(made), Approved)
        made.answer = responding(failure("InProgress"))
        await ask(made)

    made = with_terminal(responding(approved()), use)
    reference = made.heard[-1][1]["TransactionStatusRequest"]["MessageReference"]
    assert reference == {
        "MessageCategory": "Payment",
        "ServiceID": made.sent("Payment")[0].service_id,
        "SaleID": made.sent("Payment")[0].sale_id,
        "POIID": POIID,
    }


def test_a_refusal_that_is_repeated_means_that_it_was_not_taken() -> None:
    def answer(header: Header, body: Body) -> bytes:
        return repeating(header, asked_about(header, body), "PaymentResponse", failure("Busy"))

    async def use(made: Terminal) -> None:
        assert isinstance(await ask(made), NotTaken)

    with_terminal(answer, use)


# -- reversals ---------------------------------------------------------------------------------------------------------


class Books:
    """A terminal that remembers its answers to reversals by their ServiceID."""

    def __init__(self, *results: Body) -> None:
        self.known: dict[str, Body] = {}
        self._results = list(results)

    def __call__(self, header: Header, body: Body) -> bytes:
        if header.category == "Reversal":
            self.known[header.service_id] = self._results.pop(0)
            return secured(header, {"ReversalResponse": self.known[header.service_id]})
        asked = asked_about(header, body)
        if asked.service_id not in self.known:
            return secured(header, {"TransactionStatusResponse": failure("NotFound")})
        return repeating(header, asked, "ReversalResponse", self.known[asked.service_id])


def undone() -> Body:
    return {"Response": {"Result": "Success"}}


async def reverse(made: Terminal) -> Outcome:
    return await made.driver.reverse(ReverseRequest("order-1", AMOUNT, RECEIPT), lambda _: None)


async def ask_about_reversal(made: Terminal) -> Enquiry:
    return await made.driver.enquire(EnquiryRequest("order-1", AMOUNT, "", RECEIPT))


def test_each_attempt_to_reverse_has_a_number_of_its_own() -> None:
    async def use(made: Terminal) -> None:
        assert isinstance(await reverse(made), Declined)
        assert isinstance(await reverse(made), Approved)
        found = await ask_about_reversal(made)
        assert isinstance(found, Found)
        assert isinstance(found.outcome, Approved), "the answer to the first attempt is not that to the second"

    made = with_terminal(Books(failure("UnreachableHost"), undone()), use)
    assert len({header.service_id for header in made.sent("Reversal")}) == 2


def test_what_was_reversed_before_is_not_reversed_again() -> None:
    async def use(made: Terminal) -> None:
        assert isinstance(await reverse(made), Approved)
        assert isinstance(await reverse(made), Approved)

    assert len(with_terminal(Books(undone()), use).sent("Reversal")) == 1


def test_a_reversal_in_doubt_is_not_followed_by_another() -> None:
    doubtful = {"Response": {"Result": "Partial"}}

    async def use(made: Terminal) -> None:
        assert await reverse(made) == Unknown("contradiction")
        assert isinstance(await reverse(made), NotStarted)
        assert isinstance(await ask_about_reversal(made), Inconclusive)

    assert len(with_terminal(Books(doubtful), use).sent("Reversal")) == 1


def test_attempts_to_reverse_are_bounded() -> None:
    async def use(made: Terminal) -> None:
        for _ in range(REVERSAL_ATTEMPTS_MAX):
            assert isinstance(await reverse(made), Declined)
        last = await reverse(made)
        assert isinstance(last, NotStarted)
        assert last.reason == "too_many_attempts"

    made = with_terminal(Books(*[failure("UnreachableHost")] * REVERSAL_ATTEMPTS_MAX), use)
    assert len(made.sent("Reversal")) == REVERSAL_ATTEMPTS_MAX


@pytest.mark.parametrize("receipt", ["", "0001", f"t1@{AT}", "t1.p1"])
def test_what_names_no_transaction_of_the_host_is_not_sent(receipt: str) -> None:
    async def use(made: Terminal) -> None:
        outcome = await made.driver.reverse(ReverseRequest("order-1", AMOUNT, receipt), lambda _: None)
        assert isinstance(outcome, NotStarted)
        assert outcome.remedy

    assert with_terminal(Books(), use).heard == []


# -- lines -------------------------------------------------------------------------------------------------------------


def in_a_shop(use: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with bench("nexo", URL) as made:
            await use(made)

    run(main())


def test_a_terminal_that_ends_its_connection_after_each_answer_is_used_all_the_same() -> None:
    async def use(made: Bench) -> None:
        assert isinstance(made.simulator, NexoSimulator)
        made.simulator.options = replace(made.simulator.options, closes_after_answer=True)
        for _ in range(3):
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, Approved)
            payment.judge(AMOUNT)
        assert made.terminal.status.state is DeviceState.READY
        made.simulator.plugged = False
        gone = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
        assert isinstance(gone, NotStarted)
        assert gone.reason == "terminal_unreachable"
        assert len(made.simulator.ledger.transactions) == 3

    in_a_shop(use)


def test_a_terminal_that_ends_an_idle_connection_stays_ready() -> None:
    async def use(made: Bench) -> None:
        await made.clock.sleep(IDLE_END_S + 1)
        await made.line.device.close()
        await made.clock.sleep(600)
        assert {status.state for status in made.states} <= {DeviceState.READY, DeviceState.BUSY}
        assert isinstance((await made.pay(AMOUNT)).outcome, Approved)

    in_a_shop(use)


def test_an_abort_without_a_second_line_says_that_it_was_not_sent() -> None:
    async def use(made: Bench) -> None:
        async with asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(Money(1090, "EUR")), name="pay")
            await made.clock.sleep(25)
            made.simulator.plugged = False
            assert await made.terminal.abort() is False
            made.simulator.plugged = True
            assert isinstance((await paying).outcome, Approved)

    in_a_shop(use)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(failure("Busy"), "terminal_busy"), ({"Response": {"Result": "Success"}}, "not_supported")],
)
def test_a_terminal_that_does_not_say_what_it_holds_has_not_sent_it(said: Body, reason: str) -> None:
    async def use(made: Terminal) -> None:
        assert await made.driver.send_offline() == FlushResult(complete=False, reason=reason)

    with_terminal(responding(said), use)


# -- with books --------------------------------------------------------------------------------------------------------


def test_a_reversal_is_tried_again_when_the_host_is_back() -> None:
    async def use(made: Bench) -> None:
        paid = (await made.pay(AMOUNT)).outcome
        assert isinstance(paid, Approved)
        made.simulator.host_up = False
        assert isinstance((await made.reverse(AMOUNT, paid.evidence.receipt_number)).outcome, Declined)
        made.simulator.host_up = True
        assert isinstance((await made.reverse(AMOUNT, paid.evidence.receipt_number)).outcome, Approved)
        assert [(one.kind, one.state.value) for one in made.simulator.ledger.transactions] == [
            ("payment", "reversed"),
            ("reversal", "approved"),
        ]

    in_a_shop(use)


def test_stored_payments_are_counted_by_the_diagnosis_and_sent_by_the_terminal_itself() -> None:
    async def use(made: Bench) -> None:
        made.simulator.host_up = False
        stored = await made.pay(Money(1500, "EUR"))
        assert isinstance(stored.outcome, Stored)
        reversal = await made.terminal.reverse(
            ReverseRequest("r", Money(1500, "EUR"), stored.outcome.evidence.receipt_number), lambda _: None
        )
        assert isinstance(reversal, NotStarted)
        diagnosis = await made.terminal.diagnose()
        assert (diagnosis.host_reachable, diagnosis.text) == (False, "status OK, unconfirmed 1, firmware sim_1")
        assert await made.terminal.send_offline() == FlushResult(False, remaining=1, reason="left_to_the_terminal")
        await made.simulator.control({"cmd": "host", "up": True})
        diagnosis = await made.terminal.diagnose()
        assert (diagnosis.host_reachable, diagnosis.text) == (True, "status OK, unconfirmed 0, firmware sim_1")
        assert [one.state.value for one in made.simulator.ledger.transactions] == ["forwarded"]
        assert await made.terminal.send_offline() == FlushResult(True, remaining=0)

    in_a_shop(use)


def test_the_end_of_day_logs_in_and_tells_the_totals() -> None:
    async def use(made: Bench) -> None:
        await made.pay(AMOUNT)
        await made.pay(Money(1005, "EUR"))
        await made.pay(Money(160, "EUR"))
        totals = await made.terminal.end_of_day()
        assert (totals.count, totals.total) == (2, Money(2200, "EUR"))
        assert totals.lines == ("POIReconciliationID 1000",)
        made.simulator.host_up = False
        with pytest.raises(DeviceError, match=r"device\.refused") as caught:
            await made.terminal.end_of_day()
        assert caught.value.params["reason"] == "host_no_connection"

    in_a_shop(use)
