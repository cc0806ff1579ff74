"""The modem itself: a SIM card with stored messages, a network, and what it answers to AT commands in PDU mode."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.gsm_modem_codec import (
    CTRL_Z,
    ESC,
    Submit,
    decode_submit,
    encode_deliver,
    encode_status_report,
    write_pdu,
)
from drivers.sim.faults import FaultyStream, LineFaults
from drivers.sim.peripheral import PeripheralSimulator
from hubd.runtime import Runtime

READ_BYTES_MAX = 256
SLOTS = 20
MALFORMED, SIM_PIN, NO_NETWORK, NO_SUCH_INDEX = 304, 311, 331, 321
SENT_AT = "261201142530+4"
_TAKEN_WITHOUT_A_WORD = ("+CMEE=", "+CMGF=0", "+CNMI=", "+CSMP=", "+CPMS=", "+CSCS=", "+CSCA=", "+COPS=")


@dataclass(slots=True)
class ModemFaults(LineFaults):
    """What can be wrong with a modem beside its line."""

    refuse_prompt: int = 0
    """This `+CMS ERROR` in place of the prompt."""
    refuse_message: int = 0
    """This `+CMS ERROR` once the text is there."""
    mute_after_text: bool = False
    """The network takes the message, and the modem never says so."""
    plain_error: bool = False
    """`ERROR` once the text is there, without a number; the message has left."""
    same_reference: bool = False
    """Every message is taken under the same reference."""


class ModemSimulator(PeripheralSimulator):
    """One modem with its card."""

    commands = "incoming, deliver, sim, network, modem"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.faults: ModemFaults = ModemFaults()
        self.pin = "READY"
        self.registration, self.signal = 1, 20
        self.sent: list[Submit] = []
        """What the network has taken."""
        self.stored: dict[int, bytes] = {}
        """TPDUs on the card by their index."""
        self.deleted: list[int] = []
        self._reference = 0
        self._text: bytearray | None = None
        """What came of the text that is awaited, on whichever line: a serial port knows no connections."""
        self._size = 0
        self._echoing: set[FaultyStream] = set()

    async def obey(self, request: dict[str, object]) -> dict[str, object] | None:
        """See `PeripheralSimulator`."""
        match request:
            case {"cmd": "incoming", "number": str(number), "text": str(text)}:
                await self.receive(number, text)
            case {"cmd": "deliver", "reference": int(reference), "status": int(status)}:
                await self.report(reference, status)
            case {"cmd": "sim", "value": str(pin)}:
                self.pin = pin
            case {"cmd": "network", "registration": int(registration), "signal": int(signal)}:
                self.registration, self.signal = registration, signal
            case {"cmd": "modem"}:
                sent = [[one.number, one.text, one.part.number, one.part.of] for one in self.sent]
                return {"sent": sent, "stored": sorted(self.stored), "deleted": self.deleted}
            case _:
                return None
        return {"ok": True}

    async def receive(self, number: str, text: str) -> None:
        """A message comes in from the network."""
        for pdu in encode_deliver(number, text, SENT_AT, 77):
            index = next(at for at in range(1, SLOTS + 1) if at not in self.stored)
            self.stored[index] = pdu
            await self.say(f'\r\n+CMTI: "SM",{index}\r\n'.encode("ascii"))

    async def report(self, reference: int, status: int) -> None:
        """The network says what became of a message."""
        number = self.sent[-1].number if self.sent else "+33600000000"
        pdu = encode_status_report(reference, number, SENT_AT, status)
        await self.say(f"\r\n+CDS: {len(pdu)}\r\n{write_pdu(pdu)}\r\n".encode("ascii"))

    async def talk(self, stream: FaultyStream) -> None:
        """Read commands and texts and answer them until the line is lost."""
        command = bytearray()
        self._echoing.add(stream)
        try:
            while data := await stream.read(READ_BYTES_MAX):
                for byte in data:
                    if self._text is not None:
                        await self._text_byte(stream, self._text, byte)
                    elif byte == 0x0D:
                        await self._command(stream, bytes(command))
                        command.clear()
                    elif byte >= 0x20:
                        command.append(byte)
        finally:
            self._echoing.discard(stream)

    async def _say(self, stream: FaultyStream, *lines: str) -> None:
        leak = self.faults.leak
        called = (f'+CLIP: "{leak}",129', f'+COPS: 0,0,"{leak}"', f'+CUSD: 0,"{leak}",15') if leak else ()
        await stream.write("".join(f"\r\n{line}\r\n" for line in (*called, *lines)).encode("ascii"))

    async def _text_byte(self, stream: FaultyStream, awaited: bytearray, byte: int) -> None:
        one = bytes((byte,))
        if one not in (CTRL_Z, ESC):
            awaited.append(byte)
            return
        text, self._text = bytes(awaited).decode("latin-1"), None
        if one == ESC:
            await self._say(stream, "OK")
            return
        message = _submitted(text, self._size)
        if message is None:
            await self._say(stream, f"+CMS ERROR: {MALFORMED}")
        elif self.faults.refuse_message:
            await self._say(stream, f"+CMS ERROR: {self.faults.refuse_message}")
        elif self.registration not in (1, 5):
            await self._say(stream, f"+CMS ERROR: {NO_NETWORK}")
        else:
            await self._take(stream, message)

    async def _take(self, stream: FaultyStream, message: Submit) -> None:
        self.sent.append(message)
        if not self.faults.same_reference:
            self._reference = (self._reference + 1) % 256
        if self.faults.plain_error:
            await self._say(stream, "ERROR")
        elif not self.faults.mute_after_text:
            await self._say(stream, f"+CMGS: {self._reference}", "OK")

    async def _command(self, stream: FaultyStream, raw: bytes) -> None:
        text = raw.decode("latin-1").strip()
        if stream in self._echoing:
            await stream.write(raw + b"\r")
        if not text:
            return
        if not text.upper().startswith("AT"):
            await self._say(stream, "ERROR")
            return
        rest = text[2:].upper()
        if rest in ("E0", "E1"):
            (self._echoing.discard if rest == "E0" else self._echoing.add)(stream)
        if rest.startswith("+CMGS="):
            await self._prompt(stream, rest[6:])
        else:
            await self._say(stream, *self._answer(rest))

    async def _prompt(self, stream: FaultyStream, size: str) -> None:
        error = self.faults.refuse_prompt or (0 if self.pin == "READY" else SIM_PIN)
        if error or not size.isdecimal():
            await self._say(stream, f"+CMS ERROR: {error or MALFORMED}")
            return
        self._text, self._size = bytearray(), int(size)
        await stream.write(b"\r\n> ")

    def _answer(self, rest: str) -> tuple[str, ...]:
        """Lines of the answer to what stands behind AT."""
        told = {
            "+CPIN?": f"+CPIN: {self.pin}",
            "+CREG?": f"+CREG: 0,{self.registration}",
            "+CSQ": f"+CSQ: {self.signal},99",
            "+CFUN?": "+CFUN: 1",
            "+CSCA?": '+CSCA: "+33609001390",145',
            "+CPMS=?": '+CPMS: ("SM"),("SM"),("SM")',
            "+CPMS?": "+CPMS: " + ",".join([f'"SM",{len(self.stored)},{SLOTS}'] * 3),
            "+CSCS?": '+CSCS: "GSM"',
            "+CSCS=?": '+CSCS: ("GSM","UCS2")',
            "+CLAC": "+CSCS\r\n+CMGF\r\n+CNMI\r\n+CPMS",
            "+CGMI": "hubd",
        }
        if leak := self.faults.leak:
            told |= {"+CREG?": f'{told["+CREG?"]},"{leak}","{leak}"', "+CSCA?": f'+CSCA: "{leak}",145'}
        if rest in told:
            missing = rest == "+CPIN?" and not self.pin
            return ("+CME ERROR: 10",) if missing else (told[rest], "OK")
        if rest in ("", "Z", "E0", "E1") or rest.startswith(_TAKEN_WITHOUT_A_WORD):
            return ("OK",)
        index = rest[6:].removesuffix(",0")
        if rest.startswith(("+CMGR=", "+CMGD=")) and index.isdecimal():
            return self._of_the_card(rest[:5], int(index))
        return ("ERROR",)

    def _of_the_card(self, command: str, index: int) -> tuple[str, ...]:
        pdu = self.stored.get(index)
        if command == "+CMGD":
            if pdu is not None:
                self.deleted.append(index)
                del self.stored[index]
            return ("OK",)
        if pdu is None:
            return (f"+CMS ERROR: {NO_SUCH_INDEX}",)
        return (f"+CMGR: 1,,{len(pdu)}\r\n{write_pdu(pdu)}", "OK")


def _submitted(text: str, size: int) -> Submit | None:
    try:
        raw = bytes.fromhex(text)
        pdu = raw[1 + raw[0] :]
        return decode_submit(pdu) if len(pdu) == size else None
    except (ValueError, IndexError):
        return None
