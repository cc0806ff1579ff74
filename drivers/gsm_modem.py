"""GSM modems that send and receive text messages, over a serial line or USB-CDC (3GPP TS 27.005, PDU mode).

A message is on its way from the byte that ends its text (Ctrl-Z). Before it, whatever goes wrong is a refusal; after
it, everything but the modem's own clear word is `SmsUnknown`, and nothing is ever sent a second time.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Awaitable, Callable

from drivers.base import DriverOptions, Identity, Lines, Manifest, ModemDriver, Serial
from drivers.gsm_modem_codec import (
    CTRL_Z,
    ESC,
    AtEvent,
    AtReader,
    Deliver,
    Line,
    Prompt,
    Report,
    StatusReport,
    Waiting,
    encode_submit,
    read_pdu,
    refusal_of,
    write_pdu,
)
from drivers.link import LineLostError
from drivers.masking import HIDDEN, mask_card_data
from drivers.scale_line import ScaleLine
from hubd.errors import DeviceError
from hubd.model.card_data import holds_card_data
from hubd.model.device import Capability, DeviceKind
from hubd.model.sms import IncomingSms, ModemCondition, SmsOutcome, SmsRefused, SmsReport, SmsSent, SmsUnknown
from hubd.ports import ByteStream
from hubd.runtime import Clock, Runtime

MANIFEST = Manifest(
    id="gsm_modem",
    name="GSM modem",
    kind=DeviceKind.MODEM,
    matches=(Serial(),),
    capabilities=frozenset({Capability.SEND_SMS}),
    stage="experimental",
    docs="AT commands of 3GPP TS 27.005 in PDU mode; of a USB modem's several ports, the one for AT commands.",
    driver="GsmModem",
    line="baud=115200&stop_bits=1",
)

ANSWER_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 60.0
"""From Ctrl-Z to the modem's word: the network may take its time, and TS 27.005 names no limit."""
EVENTS_WAITING_MAX = 1024
STORED_MAX = 255
_TAKEN = re.compile(r"\+CMGS: ?([0-9]{1,3})(?:,.*)?")
_MESSAGE_ERROR = re.compile(r"\+CMS ERROR: ?([0-9]{1,3})")
_REGISTRATION = re.compile(r"\+CREG: ?[0-9],([0-9]+)")
_SIGNAL = re.compile(r"\+CSQ: ?([0-9]{1,2}),")
_PIN = re.compile(r"\+CPIN: ?(.+)")
_STORAGE = re.compile(r'\+CPMS: ?"[A-Z]{2}",([0-9]{1,3}),([0-9]{1,3})')
_SIM_MISSING = re.compile(r"\+CME ERROR: ?(10|13)")
_SETUP = ("ATE0", "AT+CMEE=1")
_MESSAGES_SETUP = ("AT+CMGF=0", "AT+CNMI=2,1,0,1,0")
_REMEDIES = {
    "sim_pin_needed": "Put the card into a telephone and switch off its PIN.",
    "sim_puk_needed": "Unlock the card in a telephone; its PUK is in the papers of the operator.",
    "sim_missing": "Push the SIM card in until it holds, then switch the modem off and on.",
    "searching_network": "Wait; if it goes on, move the modem or its aerial to a window.",
    "no_network": "Move the modem or its aerial to a window, and check that the contract is active.",
    "registration_denied": "The operator does not let this card in: check the contract.",
}
_PIN_PROBLEMS = {"SIM PIN": "sim_pin_needed", "SIM PIN2": "sim_pin_needed"}
_REGISTRATION_PROBLEMS = {2: "searching_network", 3: "registration_denied"}
_HOME, _ROAMING = 1, 5


class _Line(ScaleLine[AtEvent]):
    """A modem may list more at once than a scale says."""

    def __init__(self, stream: ByteStream, clock: Clock, reader: AtReader) -> None:
        super().__init__(stream, clock, reader)
        self._frames = deque(maxlen=EVENTS_WAITING_MAX)


class _Reader(AtReader):
    """Hands what the modem says by itself to its listener, so that it is never part of an answer."""

    def __init__(self, heard: Callable[[Waiting | Report], None]) -> None:
        super().__init__()
        self._heard = heard

    def feed(self, data: bytes) -> list[AtEvent]:
        """Answers only."""
        answers: list[AtEvent] = []
        for event in super().feed(data):
            if isinstance(event, (Waiting, Report)):
                self._heard(event)
            else:
                answers.append(event)
        return answers


class GsmModem(ModemDriver):
    """The hub's side of AT commands."""

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._line: _Line | None = None
        self._clean = False
        self._condition = ModemCondition()
        self._sink: Callable[[SmsReport | None], None] = lambda _: None
        self._last_reference: int | None = None

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line."""
        self._line = _Line(stream, self._clock, _Reader(self._heard))
        self._clean, self._condition = True, ModemCondition()

    async def pump(self) -> str:
        """Read until the line is lost, and return why."""
        return await self._attached().pump()

    async def close(self) -> None:
        """Give the line back."""
        if self._line is not None:
            await self._line.close()

    @property
    def usable(self) -> bool:
        """Whether the line is there and every command on it was answered."""
        return self._clean and self._line is not None and not self._line.lost

    @property
    def condition(self) -> ModemCondition:
        """See `hubd.ports.Modem.condition`."""
        return self._condition

    def listen(self, sink: Callable[[SmsReport | None], None]) -> None:
        """See `hubd.ports.Modem.listen`."""
        self._sink = sink

    def _heard(self, event: Waiting | Report) -> None:
        if isinstance(event, Waiting):
            self._sink(None)
            return
        self._sink(_sms_report(event.value))

    def _attached(self) -> _Line:
        if self._line is None:
            raise LineLostError("closed")
        return self._line

    # -- state ---------------------------------------------------------------------------------------------------------

    async def identify(self) -> Identity:
        """Leave a text that was begun, then set the modem up. Its IMEI is not read: it looks like a card number."""
        line = self._attached()
        self._clean = False
        await line.send(ESC)
        try:
            await line.settle()
        except DeviceError:
            raise _foreign() from None
        await self._command("AT")
        for command in _SETUP:
            await self._command(command)
        self._clean = True
        return await self.check()

    async def check(self) -> Identity:
        """Card, network and signal."""
        self._clean = False
        problem = await self._sim_problem()
        if not problem:
            for command in _MESSAGES_SETUP:
                await self._command(command)
            problem = await self._network_problem()
        self._clean = True
        return Identity(problem=problem, remedy=_REMEDIES.get(problem, ""))

    async def _sim_problem(self) -> str:
        lines = await self._ask("AT+CPIN?")
        if any(_SIM_MISSING.fullmatch(text) for text in lines):
            return "sim_missing"
        said = _first(_PIN, lines)
        if said == "READY":
            return ""
        if not said:
            raise _no_answer()
        return _PIN_PROBLEMS.get(said, "sim_puk_needed")

    async def _network_problem(self) -> str:
        stat = _number(_first(_REGISTRATION, await self._command("AT+CREG?")))
        level = _number(_first(_SIGNAL, await self._command("AT+CSQ")))
        registered = None if stat is None else stat in (_HOME, _ROAMING)
        # TS 27.007, 8.5: steps of 2 dBm from -113; 99 is "not known".
        signal = -113 + 2 * level if level is not None and 0 <= level <= 31 else None
        self._condition = ModemCondition(registered, stat == _ROAMING, signal)
        return "" if registered else _REGISTRATION_PROBLEMS.get(stat or 0, "no_network")

    # -- commands ------------------------------------------------------------------------------------------------------

    async def _ask(self, command: str) -> list[str]:
        """Lines of an answer, its final one last. Raises TimeoutError or `LineLostError`."""
        line = self._attached()
        line.discard()
        await line.send(command.encode("ascii") + b"\r")
        lines: list[str] = []
        async with self._clock.timeout(ANSWER_TIMEOUT_S):
            while not (lines and _is_final(lines[-1])):
                event = await line.receive(ANSWER_TIMEOUT_S)
                if isinstance(event, Line):
                    lines.append(event.text)
        return lines

    async def _command(self, command: str) -> list[str]:
        """Lines of a good answer. Raises DeviceError for another one, and as `_ask` does."""
        lines = await self._ask(command)
        if lines[-1] != "OK":
            raise _refused(command, lines[-1])
        return lines[:-1]

    # -- messages ------------------------------------------------------------------------------------------------------

    async def send(self, number: str, text: str, message_id: str) -> SmsOutcome:
        """See `hubd.ports.Modem.send`. Parts of a long message share a reference that is made of its id."""
        try:
            parts = encode_submit(number, text, zlib.crc32(message_id.encode()) & 0xFF)
        except ValueError as error:
            return SmsRefused("text_unusable", permanent=True, remedy=str(error))
        references: list[int] = []
        for part in parts:
            self._clean = False  # also for whoever cancels: the line is then opened anew
            outcome = await self._send_part(part)
            if not isinstance(outcome, int):
                if isinstance(outcome, SmsRefused) and not references:
                    return outcome
                return SmsUnknown("sent_in_part" if references else outcome.reason, tuple(references))
            references.append(outcome)
            self._clean = True
        return SmsSent(tuple(references))

    async def _send_part(self, pdu: bytes) -> int | SmsRefused | SmsUnknown:
        """The reference under which the network took it."""
        line = self._attached()
        try:
            refused = await self._prompted(line, len(pdu))
        except OSError:  # TimeoutError is one, and so is a line that was lost
            refused = SmsRefused("no_prompt", permanent=False)
        if refused:
            await self._leave_text(line)
            return refused
        line.discard()
        try:
            await line.send(write_pdu(pdu).encode("ascii") + CTRL_Z)
            return await self._taken(line)
        except LineLostError:
            return SmsUnknown("line_lost")
        except OSError:
            return SmsUnknown("no_answer")

    async def _prompted(self, line: _Line, size: int) -> SmsRefused | None:
        line.discard()
        await line.send(f"AT+CMGS={size}\r".encode("ascii"))
        async with self._clock.timeout(ANSWER_TIMEOUT_S):
            while True:
                match await line.receive(ANSWER_TIMEOUT_S):
                    case Prompt():
                        return None
                    case Line(text) if text != "OK" and _is_final(text):
                        return self._refusal(text) or SmsRefused("refused", permanent=False)
                    case _:
                        pass  # the end of an older answer

    async def _leave_text(self, line: _Line) -> None:
        """A prompt that comes late must not take the next command for a text."""
        try:
            await line.send(ESC)
        except LineLostError:
            return

    async def _taken(self, line: _Line) -> int | SmsRefused | SmsUnknown:
        reference: int | None = None
        async with self._clock.timeout(SEND_TIMEOUT_S):
            while True:
                event = await line.receive(SEND_TIMEOUT_S)
                if not isinstance(event, Line):
                    continue
                if (found := _TAKEN.fullmatch(event.text)) is not None and reference is None:
                    reference = int(found[1])
                elif event.text == "OK":
                    return self._believed(reference)
                elif _is_final(event.text):
                    refused = self._refusal(event.text) if reference is None else None
                    return refused or SmsUnknown("unclear_answer")

    def _believed(self, reference: int | None) -> int | SmsUnknown:
        """Modems count their messages: the number of the last one again is the echo of an older answer."""
        if reference is None or reference == self._last_reference:
            return SmsUnknown("no_reference" if reference is None else "old_reference")
        self._last_reference = reference
        return reference

    def _refusal(self, text: str) -> SmsRefused | None:
        found = _MESSAGE_ERROR.fullmatch(text)
        refusal = refusal_of(int(found[1])) if found else None
        return SmsRefused(refusal.reason, refusal.permanent, _REMEDIES.get(refusal.reason, "")) if refusal else None

    async def take(self, commit: Callable[[IncomingSms], Awaitable[None]]) -> int:
        """See `hubd.ports.Modem.take`. What cannot be read stays where it is."""
        self._clean = False
        taken = 0
        try:
            used, size = await self._storage()
            for index in range(min(size, STORED_MAX) + 1):
                if used <= 0:
                    break
                message = await self._stored(index)
                used -= message is not None
                if isinstance(message, Deliver):
                    await commit(_incoming(message))
                    taken += await self._delete(index, message)
        except OSError:
            raise _no_answer() from None
        self._clean = True
        return taken

    async def _storage(self) -> tuple[int, int]:
        for text in await self._command("AT+CPMS?"):
            if found := _STORAGE.match(text):
                return int(found[1]), int(found[2])
        raise _no_answer()

    async def _stored(self, index: int) -> Deliver | StatusReport | bool | None:
        """What is stored there; True for what cannot be read, None for nothing."""
        lines = await self._ask(f"AT+CMGR={index}")
        if lines[-1] != "OK" or len(lines) < 3 or not lines[0].startswith("+CMGR:"):
            return None
        message = read_pdu(lines[1])
        return True if message is None else message

    async def _delete(self, index: int, message: Deliver) -> int:
        """Delete what was committed, if it is still what stands there."""
        if await self._stored(index) != message:
            return 0
        await self._command(f"AT+CMGD={index}")
        return 1


def _is_final(text: str) -> bool:
    return text in ("OK", "ERROR") or text.startswith(("+CMS ERROR", "+CME ERROR"))


def _first(pattern: re.Pattern[str], lines: list[str]) -> str:
    return next((found[1] for text in lines if (found := pattern.match(text))), "")


def _number(text: str) -> int | None:
    return int(text) if text else None


def _incoming(message: Deliver) -> IncomingSms:
    part = message.part
    kept = _kept(message.number), _kept(message.text), message.sent_at
    return IncomingSms(*kept, part.reference, part.number, part.of)


def _kept(text: str) -> str:
    """The text without card numbers: people write everything into a message. Whoever joins parts has to look again."""
    if not holds_card_data(text) and not holds_card_data(text.replace("\n", " ")):
        return text
    masked = "\n".join(map(mask_card_data, text.split("\n")))
    return HIDDEN if holds_card_data(masked.replace("\n", " ")) else masked


def _sms_report(report: StatusReport) -> SmsReport:
    """TP-Status below 20 hex is the end of a delivery, from 20 to 3F the service centre still tries."""
    trying = 0x20 <= report.status < 0x40
    return SmsReport(report.reference, _kept(report.number), None if trying else report.status < 0x20)


def _foreign() -> DeviceError:
    return DeviceError(
        "device.protocol",
        "Something else talks on this line than a modem.",
        remedy="Choose the modem's port for AT commands, and check the speed of the line.",
        params={"reason": "not_a_modem"},
    )


def _no_answer() -> DeviceError:
    return DeviceError(
        "device.no_answer",
        "The modem does not answer.",
        remedy="Switch it off and on, check its cable, and choose its port for AT commands.",
    )


def _refused(command: str, said: str) -> DeviceError:
    return DeviceError(
        "device.refused",
        f"The modem refused {command} ({mask_card_data(said)}).",
        remedy="Switch it off and on; if that does not help, it is of another kind than this driver knows.",
        params={"reason": "refused"},
    )
