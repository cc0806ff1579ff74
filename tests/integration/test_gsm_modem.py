"""A GSM modem on a pseudo-terminal: our driver and an independent client against our simulator in its own process."""

from __future__ import annotations

import queue
import threading

from gsmmodem.modem import GsmModem, ReceivedSms, StatusReport

from drivers.faces import RunnerModem
from hubd.model.device import DeviceState
from hubd.model.sms import IncomingSms, SmsReport, SmsSent
from tests.integration.test_scales_and_scanners import TIMEOUT_S, Simulator, running, simulator
from tests.rigs.process import wait_for, wait_until

__all__ = ["simulator"]
NUMBER = "+33612345678"


async def test_messages_on_a_real_line(simulator: Simulator) -> None:
    url = f"{simulator.start('modem', 'pty').partition('?')[0]}?baud=115200&stop_bits=1"
    async with running("gsm_modem", url) as modem:
        assert isinstance(modem, RunnerModem)
        heard: list[SmsReport | None] = []
        modem.listen(heard.append)
        said = await modem.send(NUMBER, "Ça coûte 3 €, cœur", "m1")
        assert isinstance(said, SmsSent)
        simulator.tell(cmd="deliver", reference=said.references[0], status=0)
        await wait_until(
            lambda: heard == [SmsReport(said.references[0], NUMBER, delivered=True)], TIMEOUT_S, "a report"
        )
        simulator.tell(cmd="incoming", number="+33700000001", text="STOP")
        await wait_until(lambda: heard[1:] == [None], TIMEOUT_S, "news of a message")
        got: list[IncomingSms] = []

        async def commit(message: IncomingSms) -> None:
            got.append(message)

        assert await modem.take(commit) == 1
        assert [(one.number, one.text) for one in got] == [("+33700000001", "STOP")]
        state = simulator.tell(cmd="modem")
        assert (state["sent"], state["stored"]) == ([[NUMBER, "Ça coûte 3 €, cœur", 1, 1]], [])
        simulator.tell(cmd="unplug")
        await wait_until(lambda: modem.status.state is DeviceState.GONE, TIMEOUT_S, "a modem that is gone")


def _takes_a_message(thread: threading.Thread) -> bool:
    return "HandleModemNotification" in thread.name


def test_an_independent_client_sends_and_receives_by_our_simulator(simulator: Simulator) -> None:
    path = simulator.start("modem", "pty").partition("?")[0].removeprefix("serial://")
    messages: queue.Queue[ReceivedSms] = queue.Queue()
    reports: queue.Queue[StatusReport] = queue.Queue()
    client = GsmModem(
        path,
        115200,
        smsReceivedCallbackFunc=messages.put,
        smsStatusReportCallback=reports.put,
        AT_CNMI="2,1,0,1,0",
    )
    client.connect()
    try:
        assert client.waitForNetworkCoverage() == 20  # with a timeout it would leave a thread behind
        sent = client.sendSms(NUMBER, "Cœur à 3 €")
        long = client.sendSms(NUMBER, "x" * 200)
        assert (sent.reference, long.reference) == (1, 3)
        simulator.tell(cmd="deliver", reference=1, status=0)
        assert reports.get(timeout=TIMEOUT_S).reference == 1
        simulator.tell(cmd="incoming", number="+33700000001", text="Merci, à bientôt")
        got = messages.get(timeout=TIMEOUT_S)
        assert (got.number, got.text) == ("+33700000001", "Merci, à bientôt")
        # The client takes a message off the card after it has told of it, in a thread of its own.
        wait_for(lambda: not any(map(_takes_a_message, threading.enumerate())), TIMEOUT_S, "the end of that thread")
        state = simulator.tell(cmd="modem")
        assert state["stored"] == []
        assert [(one[1][:10], one[2:]) for one in state["sent"]] == [
            ("Cœur à 3 €", [1, 1]), ("x" * 10, [1, 2]), ("x" * 10, [2, 2]),
        ]  # fmt: skip
    finally:
        client.close()
