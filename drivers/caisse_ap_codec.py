"""Caisse-AP bytes <-> values: elements, messages, and the removal of card data. Pure; nothing here waits or remembers.

The specification (Association du Paiement, protocole caisse, 3.x) is for members; what stands here is what its public
readers agree on: the API page of HiPay for Nepting, PayXpert's "Concert V3", and the module of the Odoo community
(`l10n_fr_pos_caisse_ap_ip`) with its authors' terminal simulator, tested against an Ingenico Desk/5000.

A message is a run of elements: a tag of two capital letters, a length of three digits, a value. It begins with `CZ`,
the order of the others means nothing, none stands twice, and nothing marks its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from drivers.trace import plain, size

VALUE_CHARACTERS_MAX = 999
ELEMENTS_MAX = 100
"""Of one message; the documents name about forty tags."""
AMOUNT_MAX = 10**12 - 1
"""Minor units; tag CB has two to twelve digits."""
REFERENCE_CHARACTERS_MAX = 32
"""Of tag CF. A cash register may send 99, but HiPay's terminals give 32 back."""

VERSION = "0300"
"""3.00: the oldest version over IP, and the one that the examples of all readers ask for."""
REGISTER_ID = "012345678901"
"""Tag CJ. The Association numbers registered software; terminals do not look at it, and answer with their own."""

DEBIT, IDENTIFICATION = "0", "I"
PERFORMED, TAKEN_INTO_ACCOUNT, NOT_PERFORMED = "10", "11", "01"
"""Tag AE. 11 is no outcome: the terminal has understood what it is to do."""

CURRENCY_NUMBERS: Final = {"EUR": "978", "XPF": "953", "CHF": "756", "GBP": "826", "USD": "840"}
"""ISO 4217 numbers, for tag CE."""
_CURRENCIES = {number: code for code, number in CURRENCY_NUMBERS.items()}

_HEAD = re.compile(rb"[A-Z]{2}[0-9]{3}")
_PLACEHOLDER = b"AA001"
"""Completes the beginning of an element, to see whether it can still become one."""
_APPLICATIONS = {
    "001": "CB", "00B": "CB", "002": "American Express", "00D": "American Express", "006": "Diners Club", "009": "JCB",
    "00C": "Cheque", "00E": "Conecs", "10E": "Conecs", "00U": "UnionPay",
}  # fmt: skip
_SCHEMES = {"A000000003": "Visa", "A000000004": "Mastercard", "A000000042": "CB", "A000000025": "American Express"}
_TECHNOLOGY = {"1": "chip", "2": "contactless", "3": "swipe", "4": "manual"}
_CONTACTLESS = frozenset({"00B", "00D", "10E"})


# --- elements -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Element:
    """One tag with its value, which may hold card data: `repr` shows the tag only."""

    tag: str
    value: str = field(repr=False)


class Garbage(Struct, frozen=True):
    """Bytes that no Caisse-AP device sends."""

    reason: str


class ElementReader:
    """Cuts a stream of bytes into elements, at any split. Keeps at most one element's worth of bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._spoiled = False

    @property
    def pending(self) -> bool:
        """Whether the beginning of an element is there and its end is not."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Element | Garbage]:
        """Take bytes; what follows garbage is dropped. Line ends between elements mean nothing and are skipped."""
        if self._spoiled:
            return []
        self._rest += data
        out: list[Element | Garbage] = []
        at = 0
        while True:
            while at < len(self._rest) and self._rest[at] in b"\r\n":
                at += 1
            head = bytes(self._rest[at : at + 5])
            if not head:
                break
            length = _length_of(head)
            value = bytes(self._rest[at + 5 : at + 5 + length])
            if not length or not _printable(value):
                self._spoiled = True
                self._rest.clear()
                return [*out, Garbage("not_caisse_ap")]
            if len(head) < 5 or len(value) < length:
                break
            out.append(Element(head[:2].decode("ascii"), value.decode("latin-1")))
            at += 5 + length
        del self._rest[:at]
        return out


def _length_of(head: bytes) -> int:
    """Length that an element's first bytes announce, 1 while it is not there, 0 when they cannot begin an element."""
    whole = head + _PLACEHOLDER[len(head) :]
    return int(head[2:] if len(head) == 5 else 1) if _HEAD.fullmatch(whole) else 0


def _printable(value: bytes) -> bool:
    return all(byte >= 0x20 and byte != 0x7F for byte in value)


def encode_elements(elements: Iterable[tuple[str, str]]) -> bytes:
    """Elements in this order; raises ValueError for what cannot be said. The protocol is ASCII, its texts Latin-1."""
    out = bytearray()
    for tag, value in elements:
        data = value.encode("latin-1")
        if not (re.fullmatch(r"[A-Z]{2}", tag) and 0 < len(data) <= VALUE_CHARACTERS_MAX and _printable(data)):
            raise ValueError(f"an element {tag[:2]!r} with {len(data)} characters cannot be written")
        out += f"{tag}{len(data):03d}".encode("ascii") + data
    return bytes(out)


# --- messages -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """Elements of one message by their tags. They may hold card data, so `repr` shows nothing of them."""

    fields: dict[str, str] = field(repr=False)

    def get(self, tag: str) -> str:
        """Value of a tag, "" when it is absent: an empty value cannot be sent."""
        return self.fields.get(tag, "")


class Payment(Struct, frozen=True):
    """CD 0: take a payment, and answer when it has ended (BA 0)."""

    amount_minor: int
    currency: str
    till: str
    reference: str = ""
    """Tag CF, private data that most terminals give back; empty: not sent."""


class Identification(Struct, frozen=True):
    """CD I: say who you are. Moves no money, and is answered at once."""

    till: str


def encode_request(request: Payment | Identification) -> bytes:
    """A message of the cash register; raises ValueError for amounts, currencies or texts that it cannot say."""
    elements = [("CZ", VERSION), ("CJ", REGISTER_ID), ("CA", request.till)]
    if isinstance(request, Identification):
        return encode_elements([*elements, ("CD", IDENTIFICATION)])
    if request.currency not in CURRENCY_NUMBERS:
        raise ValueError(f"no number known for currency {request.currency}")
    if not 0 <= request.amount_minor <= AMOUNT_MAX:
        raise ValueError("Caisse-AP amounts have at most twelve digits")
    elements += [
        ("CE", CURRENCY_NUMBERS[request.currency]),
        ("BA", "0"),
        ("CD", DEBIT),
        ("CB", f"{request.amount_minor:02d}"),
    ]
    if request.reference:
        elements.append(("CF", request.reference))
    return encode_elements(elements)


def decode_request(message: Message) -> Payment | Identification | None:
    """The reverse of `encode_request`; None for what is malformed or asks for something else."""
    if message.get("CD") == IDENTIFICATION:
        return Identification(message.get("CA"))
    amount, currency = amount_of(message.get("CB")), _CURRENCIES.get(message.get("CE"), "")
    if message.get("CD") != DEBIT or amount is None or not currency:
        return None
    return Payment(amount, currency, message.get("CA"), message.get("CF"))


def amount_of(value: str) -> int | None:
    """Minor units of tag CB, which some terminals fill up with zeros; None for what is no amount."""
    return int(value) if re.fullmatch(r"[0-9]{1,12}", value) else None


def reference_of(payment_id: str) -> str:
    """A payment's id as tag CF can carry it and get it back, or "": its dashes go, so that 32 characters are enough."""
    short = payment_id.replace("-", "")
    fits = short.isascii() and short.isprintable() and 0 < len(short) <= REFERENCE_CHARACTERS_MAX
    return short if fits else ""


class Answer(Struct, frozen=True):
    """What a terminal says of a request. What is absent, or does not hold what it should, is None or empty."""

    status: str = ""
    """AE: 10 performed, 11 taken into account, 01 not performed."""
    cause: str = ""
    """First two characters of AF; the rest is text of the host, and is dropped."""
    action: str = ""
    till: str = ""
    amount_minor: int | None = None
    currency: str = ""
    reference: str = ""
    """CF as it came: what was sent with the request, or data of the terminal's own. Compared, and never shown."""
    version: str = ""
    authorization_code: str = ""
    card_name: str = ""
    pan_last4: str = ""
    technology: str = ""


def decode_answer(message: Message) -> Answer:
    """Read a terminal's message; never raises. Card number (AA), expiry (AB) and ticket (ZT) end here."""
    application, scheme = message.get("CC"), message.get("AI")[:10]
    technology = _TECHNOLOGY.get(message.get("CI"), "contactless" if application in _CONTACTLESS else "")
    code = message.get("AC")
    return Answer(
        status=message.get("AE"),
        cause=message.get("AF")[:2],
        action=message.get("CD"),
        till=message.get("CA"),
        amount_minor=amount_of(message.get("CB")),
        currency=_CURRENCIES.get(message.get("CE"), ""),
        reference=message.get("CF"),
        version=message.get("CZ"),
        authorization_code=code if re.fullmatch(r"[0-9A-Za-z]{1,10}", code) else "",
        card_name=_SCHEMES.get(scheme) or _APPLICATIONS.get(application, ""),
        pan_last4=_last4(message.get("AA")),
        technology=technology,
    )


def _last4(number: str) -> str:
    return number[-4:] if re.fullmatch(r"[0-9]{4}", number[-4:]) else ""


# --- traces ---------------------------------------------------------------------------------------------------------

_SHOWN = frozenset({"CZ", "CJ", "CA", "CB", "CC", "CD", "CE", "CI", "BA", "AE", "AC"})
"""Tags whose values are no card data; all are too short for a card number, or are not shown."""


def describe_element(event: Element | Garbage) -> str:
    """What a trace may tell of one element. Of a cause (AF) the code, and not the host's text behind it."""
    match event:
        case Garbage(reason):
            return f"unreadable: {reason}"
        case Element("AF", value):
            return f"AF={plain(value[:2])}…"
        case Element(tag, value):
            return f"{tag}={plain(value) if tag in _SHOWN else f'({size(value)} hidden)'}"
