"""Caisse Concert bytes <-> values: signals, frames, the two messages, and the removal of card data. Pure.

No official specification is public. The layouts are those of the open clients of "protocole E+" (pyTeliumManager,
pypostelium) and of PayXpert's description of Concert V2; both ends of a frame are ASCII, and every message has its
fields at fixed places. The 55 characters of the full answer's report hold the clear card number: they end here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce
from operator import xor

from msgspec import Struct

from drivers.trace import plain, size

STX, ETX = 0x02, 0x03
PAYLOAD_MAX = 512
"""Characters between STX and ETX: Concert's own limit, far above the 80 of a full answer."""
NOISE_MAX = 1024
"""Bytes that are neither a signal nor in a frame, before the line counts as babble."""
AMOUNT_MAX = 99_999_999
"""Minor units; eight digits."""
REFERENCE_CHARACTERS = 10
"""Length of the private field."""
REPORT_CHARACTERS = 55
REQUEST_CHARACTERS = 34
ANSWER_CHARACTERS = 2 + 1 + 8 + 1 + 3 + 10
FULL_ANSWER_CHARACTERS = ANSWER_CHARACTERS + REPORT_CHARACTERS

SHORT_ANSWER, FULL_ANSWER = "0", "1"
CARD = "1"
"""Payment mode: any card."""
DEBIT = "0"
"""Transaction type: the customer pays."""
ANSWER_AT_THE_END = "A010"
TERMINAL_DECIDES, FORCE_ONLINE = "B010", "B011"
APPROVED, REFUSED, NOT_VERIFIED = "0", "7", "9"

CURRENCY_NUMBERS = {
    "CAD": "124", "CZK": "203", "DKK": "208", "HUF": "348", "NOK": "578", "SEK": "752",
    "CHF": "756", "GBP": "826", "USD": "840", "EUR": "978", "PLN": "985",
}  # fmt: skip
"""ISO 4217 numbers of currencies with two decimals, because the amount is said in hundredths."""

_MARK = "H"
_REFERENCE = re.compile(rf"{_MARK}[A-Z2-7]{{{REFERENCE_CHARACTERS - 1}}}")
_PRINTABLE = range(0x20, 0x7F)


class Signal(IntEnum):
    """What one byte says outside of a frame."""

    EOT = 0x04
    ENQ = 0x05
    ACK = 0x06
    NAK = 0x15

    @property
    def encoded(self) -> bytes:
        """The byte."""
        return bytes((self,))


_SIGNALS = frozenset(map(int, Signal))


@dataclass(frozen=True, slots=True)
class Frame:
    """One message with a good check byte. Its payload may hold card data, so `repr` does not show it."""

    payload: bytes = field(repr=False)


class BadFrame(Struct, frozen=True):
    """A frame that was spoiled on its way; the receiver answers NAK and the sender may repeat it."""

    reason: str


class Garbage(Struct, frozen=True):
    """What is there can never become a Concert conversation; the line must be closed."""

    reason: str


LinkEvent = Signal | Frame | BadFrame | Garbage


def lrc(data: bytes) -> int:
    """Exclusive or of all bytes. It is taken over the payload and ETX, and may equal STX, ETX or any signal."""
    return reduce(xor, data, 0)


def encode_frame(frame: Frame) -> bytes:
    """STX, payload, ETX and check byte. Raises ValueError for a payload that no frame can carry."""
    if len(frame.payload) > PAYLOAD_MAX or any(byte not in _PRINTABLE for byte in frame.payload):
        raise ValueError(f"a frame carries up to {PAYLOAD_MAX} printable ASCII characters")
    body = frame.payload + bytes((ETX,))
    return bytes((STX,)) + body + bytes((lrc(body),))


class FrameReader:
    """Finds signals and frames in a byte stream; noise between them is skipped, up to a limit."""

    def __init__(self) -> None:
        self._body: bytearray | None = None
        self._ended = False
        self._spoiled = False
        self._noise = 0

    def feed(self, data: bytes) -> list[LinkEvent]:
        """What is complete now."""
        return [event for byte in data if (event := self._take(byte)) is not None]

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._body is not None

    def give_up(self) -> BadFrame:
        """Forget a frame that does not go on; what comes next is read afresh."""
        self._body, self._ended, self._spoiled = None, False, False
        return BadFrame("cut_short")

    def _take(self, byte: int) -> LinkEvent | None:
        if self._body is None:
            return self._between(byte)
        if self._ended:
            return self._finish(self._body, byte)
        if byte == ETX:
            self._ended = True
        elif byte == STX:  # the end of the frame before was lost; a new one begins
            self._begin()
        elif len(self._body) >= PAYLOAD_MAX:
            self.give_up()
            return BadFrame("frame_beyond_limit")
        else:
            # A signal here is a spoiled character: to obey it would let the rest of the frame pass for noise.
            self._spoiled |= byte not in _PRINTABLE
            self._body.append(byte)
        return None

    def _between(self, byte: int) -> LinkEvent | None:
        if byte == STX:
            self._begin()
            return None
        if byte in _SIGNALS:
            return Signal(byte)
        self._noise += 1
        if self._noise > NOISE_MAX:
            self._noise = 0
            return Garbage("babble")
        return None

    def _begin(self) -> None:
        self._body, self._ended, self._spoiled = bytearray(), False, False

    def _finish(self, body: bytearray, check: int) -> Frame | BadFrame:
        payload, spoiled = bytes(body), self._spoiled
        self.give_up()
        if spoiled or lrc(payload + bytes((ETX,))) != check:
            return BadFrame("wrong_check_byte")
        self._noise = 0
        return Frame(payload)


# --- messages -------------------------------------------------------------------------------------------------------


class PaymentRequest(Struct, frozen=True):
    """The one message that moves money."""

    pos_number: str
    """Two digits: the cash register's number as the terminal knows it."""
    amount_minor: int
    currency: str
    """ISO 4217 code."""
    private: str = " " * REFERENCE_CHARACTERS
    answer: str = SHORT_ANSWER
    mode: str = CARD
    kind: str = DEBIT
    delay: str = ANSWER_AT_THE_END
    authorization: str = TERMINAL_DECIDES


class PaymentAnswer(Struct, frozen=True):
    """What the terminal says of a payment, short or full, without the report."""

    pos_number: str
    result: str
    """One character: 0 approved, 7 refused, 9 not verified, anything else is not described."""
    amount_minor: int
    mode: str
    currency_number: str
    reference: str = ""
    """The private field where it is a reference of ours, else empty: terminals put words of their own there."""


class Malformed(Struct, frozen=True):
    """A whole frame that is no answer to a payment."""

    reason: str


def reference_of(payment_id: str) -> str:
    """The private field for a payment: a letter that no terminal's own number has, and 45 bits of the id's SHA-256."""
    digest = hashlib.sha256(payment_id.encode("utf-8")).digest()
    return _MARK + base64.b32encode(digest)[: REFERENCE_CHARACTERS - 1].decode("ascii")


def encode_request(request: PaymentRequest) -> Frame:
    """The 34 characters of a payment. Raises ValueError with a sentence when a field does not fit."""
    if not 0 <= request.amount_minor <= AMOUNT_MAX:
        raise ValueError(f"The protocol's amount has eight digits: {AMOUNT_MAX} minor units at most.")
    number = CURRENCY_NUMBERS.get(request.currency)
    if number is None:
        raise ValueError(f"This driver knows no number for {request.currency}.")
    text = (
        f"{request.pos_number}{request.amount_minor:08d}{request.answer}{request.mode}{request.kind}"
        f"{number}{request.private}{request.delay}{request.authorization}"
    )
    lengths = (request.pos_number, request.answer, request.mode, request.kind, request.private, request.delay)
    if [*map(len, lengths)] != [2, 1, 1, 1, REFERENCE_CHARACTERS, 4] or len(text) != REQUEST_CHARACTERS:
        raise ValueError("A field of the request has the wrong length.")
    return Frame(text.encode("ascii"))


def decode_request(frame: Frame) -> PaymentRequest | Malformed:
    """The reverse of `encode_request`, for whoever plays the terminal."""
    if len(frame.payload) != REQUEST_CHARACTERS:
        return Malformed("wrong_length")
    text = frame.payload.decode("ascii", "replace")
    codes = [code for code, number in CURRENCY_NUMBERS.items() if number == text[13:16]]
    if not (_digits(text[:10]) and codes):
        return Malformed("wrong_field")
    return PaymentRequest(
        pos_number=text[:2],
        amount_minor=int(text[2:10]),
        answer=text[10],
        mode=text[11],
        kind=text[12],
        currency=codes[0],
        private=text[16:26],
        delay=text[26:30],
        authorization=text[30:34],
    )


def decode_answer(frame: Frame) -> PaymentAnswer | Malformed:
    """The answer without its report. Nothing of the report, and no private field but our own, leaves this function."""
    text = frame.payload.decode("ascii", "replace")
    if len(text) == FULL_ANSWER_CHARACTERS:
        text = text[:12] + text[12 + REPORT_CHARACTERS :]
    if len(text) != ANSWER_CHARACTERS:
        return Malformed("wrong_length")
    if not (_digits(text[:2]) and _digits(text[3:11]) and _digits(text[12:15])):
        return Malformed("wrong_field")
    private = text[15:]
    return PaymentAnswer(
        pos_number=text[:2],
        result=text[2],
        amount_minor=int(text[3:11]),
        mode=text[11],
        currency_number=text[12:15],
        reference=private if _REFERENCE.fullmatch(private) else "",
    )


def encode_answer(answer: PaymentAnswer, private: str = " " * REFERENCE_CHARACTERS, report: str = "") -> Frame:
    """What a terminal sends; `private` stands where it names no reference, `report` makes the answer a full one.

    Raises ValueError when a field does not fit.
    """
    private = answer.reference or private
    text = (
        f"{answer.pos_number}{answer.result}{answer.amount_minor:08d}{answer.mode}"
        f"{report}{answer.currency_number}{private}"
    )
    if len(private) != REFERENCE_CHARACTERS or len(text) not in (ANSWER_CHARACTERS, FULL_ANSWER_CHARACTERS):
        raise ValueError("A field of the answer has the wrong length.")
    return Frame(text.encode("ascii"))


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


# --- traces ---------------------------------------------------------------------------------------------------------


def describe_to_terminal(event: LinkEvent) -> str:
    """What a trace may tell of what the hub says."""
    match event:
        case Frame() if isinstance(asked := decode_request(event), PaymentRequest):
            amount = f"{asked.amount_minor} {asked.currency}"
            return f"payment register={asked.pos_number} amount={amount} answer={plain(asked.answer)}"
    return _describe(event)


def describe_from_terminal(event: LinkEvent) -> str:
    """What a trace may tell of what the terminal says: nothing of its report, and no private field but our own."""
    match event:
        case Frame() if isinstance(said := decode_answer(event), PaymentAnswer):
            told = f"answer register={said.pos_number} result={plain(said.result)} amount={said.amount_minor} "
            told += f"mode={plain(said.mode)} currency={said.currency_number}"
            full = len(event.payload) == FULL_ANSWER_CHARACTERS
            return f"{told} (report of {REPORT_CHARACTERS} characters hidden)" if full else told
    return _describe(event)


def _describe(event: LinkEvent) -> str:
    match event:
        case Signal():
            return event.name
        case Frame(payload):
            return f"frame ({size(payload)} hidden)"
        case BadFrame(reason) | Garbage(reason):
            return f"unreadable: {reason}"
