"""ZVT commands and answers as values, both directions: the driver encodes what the simulator decodes, and back.

Pure. What stands in an answer has already lost its card data (`zvt_codec`): a card number is its last four digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from drivers.masking import mask_card_data
from drivers.zvt_codec import (
    AMOUNT_MAX,
    CURRENCY_NUMBERS,
    Apdu,
    Tlv,
    amount_to_bcd,
    bcd,
    build_fields,
    currency_of,
    find_all_tlv,
    find_tlv,
    from_bcd,
    parse_fields,
    parse_tlv,
    scrub_text,
)

REGISTRATION, AUTHORIZATION, LOG_OFF = 0x0600, 0x0601, 0x0602
REPEAT_RECEIPT, REVERSAL, END_OF_DAY = 0x0620, 0x0630, 0x0650
SEND_OFFLINE, DIAGNOSIS, INITIALISATION = 0x0651, 0x0670, 0x0693
_DIAGNOSIS_TYPE, EXTENDED_DIAGNOSIS = 0x1B, 0x02
ABORT_COMMAND, STATUS_ENQUIRY = 0x06B0, 0x0501
DISPLAY_TEXT, SET_CLOCK = 0x06E0, 0x0691
DISPLAY_LINES_MAX, DISPLAY_SECONDS_MAX = 8, 0xFF
DEVICE, DEVICE_NAME, DEVICE_SOFTWARE = 0xE4, 0x1F40, 0x1F41
SOFTWARE_CHARACTERS_MAX = 80
STATUS_INFORMATION, INTERMEDIATE_STATUS = 0x040F, 0x04FF
COMPLETION, ABORT, PRINT_LINE, PRINT_BLOCK = 0x060F, 0x061E, 0x06D1, 0x06D3
POSITIVE_ACK: Final = Apdu(0x8000)

RECEIPTS_BY_HUB, ADMIN_RECEIPTS_BY_HUB, SEND_PROGRESS = 0x02, 0x04, 0x08
NO_PAYMENT_AT_TERMINAL, NO_ADMIN_AT_TERMINAL, RECEIPT_TEXT_FROM_TERMINAL = 0x10, 0x20, 0x80
CONFIG_BYTE = (
    RECEIPTS_BY_HUB
    | ADMIN_RECEIPTS_BY_HUB
    | SEND_PROGRESS
    | NO_PAYMENT_AT_TERMINAL
    | NO_ADMIN_AT_TERMINAL
    | RECEIPT_TEXT_FROM_TERMINAL
)
"""BE: nothing that moves money starts behind the hub's back, the terminal reports its steps and sends its receipts."""

RESULT_TEXT = {
    0x05: "declined", 0x64: "card_unreadable", 0x6A: "turnover_file_full", 0x6B: "not_registered", 0x6C: "cancelled",
    0x6E: "card_blocked", 0x6F: "wrong_currency", 0x77: "end_of_day_not_possible", 0x78: "card_expired",
    0x83: "function_not_possible", 0x9A: "protocol_error", 0x9B: "communication_fault", 0x9C: "terminal_busy",
    0xA0: "receiver_not_ready", 0xA1: "host_no_response", 0xA3: "host_no_connection", 0xA5: "not_allowed_by_pci",
    0xB1: "memory_full", 0xB2: "journal_full", 0xB4: "already_reversed", 0xB5: "reversal_not_possible",
    0xB8: "pre_authorization_error", 0xC2: "diagnosis_required", 0xC3: "amount_above_maximum",
    0xC5: "method_not_supported", 0xC6: "currency_not_supported", 0xCC: "printer_not_ready", 0xDC: "card_inserted",
    0xE4: "activation_required", 0xF0: "end_of_day_open", 0xF1: "offline_error", 0xFA: "clearing_failed",
    0xFC: "device_missing", 0xFF: "system_error",
}  # fmt: skip
PROGRESS_TEXT = {
    0x00: "confirm_amount", 0x04: "waiting_for_host", 0x05: "auto_reversal", 0x0A: "insert_card", 0x0B: "remove_card",
    0x0E: "please_wait", 0x0F: "automatic_end_of_day", 0x17: "please_wait", 0x1C: "approved_take_goods",
    0x1D: "declined", 0xCB: "journal_full", 0xD2: "dialling", 0xF1: "offline", 0xF2: "online",
    0xF3: "offline_transaction", 0xFF: "terminal_says",
}  # fmt: skip
APPROVED_TAKE_GOODS, OFFLINE_TRANSACTION, TERMINAL_SAYS = 0x1C, 0xF3, 0xFF
"""The last one has no meaning of its own: the text that comes along is all of it."""
_TECHNOLOGY = {b"\x00": "swipe", b"\x01": "chip", b"\x02": "contactless"}
_VERIFICATION = {
    b"\x00": "none", b"\x01": "signature", b"\x02": "pin", b"\x03": "pin", b"\x04": "pin", b"\x05": "pin",
    b"\x06": "pin", b"\x07": "pin",
}  # fmt: skip


_RECEIPTS = {b"\x01": "merchant", b"\x02": "cardholder", b"\x03": "administration"}


class Registration(Struct, frozen=True):
    """06 00: who is in charge and how the terminal is to behave."""

    password: str
    config: int
    currency: str = ""


class Authorization(Struct, frozen=True):
    """06 01: take a payment."""

    amount_minor: int
    currency: str = ""
    reference: str = ""


class Reversal(Struct, frozen=True):
    """06 30: undo the payment with this receipt number."""

    password: str
    receipt_number: str


class Plain(Struct, frozen=True):
    """A command of which the hub sends nothing but, at most, the password and which form of it is meant."""

    command: int
    password: str = ""
    form: int = 0
    """For a diagnosis its type (TLV 1B): 0 leaves it out, which is the test of the line to the host."""


class DisplayText(Struct, frozen=True):
    """06 E0: show these lines, fields F1 to F8, for so many seconds (field F0; 0: until the next command)."""

    lines: tuple[str, ...]
    seconds: int = 0


class SetClock(Struct, frozen=True):
    """06 91: the terminal's date and time. It has no word for a zone: the shop's own."""

    date: str
    """YYMMDD."""
    time: str
    """HHMMSS."""


Command = Registration | Authorization | Reversal | DisplayText | SetClock | Plain


def encode_command(command: Command) -> Apdu:
    """A command of the hub; raises ValueError for amounts, currencies or numbers that ZVT cannot say."""
    match command:
        case Registration(password, config, currency):
            return Apdu(REGISTRATION, bcd(password) + bytes((config,)) + (_currency(currency) if currency else b""))
        case Authorization(amount_minor, currency, reference):
            fields = [(0x04, amount_to_bcd(amount_minor))]
            if currency:
                fields.append((0x49, _currency(currency)))
            if reference:
                fields.append((0x3C, reference.encode("ascii")))
            return Apdu(AUTHORIZATION, build_fields(fields))
        case Reversal(password, receipt_number):
            return Apdu(REVERSAL, bcd(password) + build_fields([(0x87, bcd(receipt_number))]))
        case DisplayText(lines, seconds):
            return Apdu(DISPLAY_TEXT, _display_fields(lines, seconds))
        case SetClock(date, time):
            return Apdu(SET_CLOCK, build_fields([(0xAA, bcd(date)), (0x0C, bcd(time))]))
        case Plain(code, password, form):
            kind = build_fields([(0x06, bytes((_DIAGNOSIS_TYPE, 1, form)))]) if form else b""
            return Apdu(code, (bcd(password) if password else b"") + kind)


def _display_fields(lines: tuple[str, ...], seconds: int) -> bytes:
    if not (0 < len(lines) <= DISPLAY_LINES_MAX and 0 <= seconds <= DISPLAY_SECONDS_MAX):
        raise ValueError("a ZVT display takes one to eight lines for at most 255 seconds")
    texts = [(0xF1 + index, line.encode("cp437", "replace")) for index, line in enumerate(lines)]
    return build_fields([(0xF0, bytes((seconds,))), *texts])


def _currency(code: str) -> bytes:
    if code not in CURRENCY_NUMBERS:
        raise ValueError(f"no ZVT number known for currency {code}")
    return bytes.fromhex(CURRENCY_NUMBERS[code])


def decode_command(apdu: Apdu) -> Command | None:
    """The reverse of `encode_command`; None for what is malformed."""
    data = apdu.data
    if apdu.command == REGISTRATION:
        if len(data) < 4 or not from_bcd(data[:3]):
            return None
        return Registration(from_bcd(data[:3]), data[3], currency_of(data[4:6]))
    if apdu.command == AUTHORIZATION:
        fields, _ = parse_fields(data)
        amount = from_bcd(fields.get(0x04, b""))
        if not amount:
            return None
        reference = fields.get(0x3C, b"").decode("ascii", "replace")
        return Authorization(int(amount), currency_of(fields.get(0x49, b"")), reference)
    if apdu.command == REVERSAL:
        fields, _ = parse_fields(data[3:])
        receipt = from_bcd(fields.get(0x87, b""))
        return Reversal(from_bcd(data[:3]), receipt) if receipt and from_bcd(data[:3]) else None
    if apdu.command == DISPLAY_TEXT:
        fields, _ = parse_fields(data)
        shown = tuple(fields[tag].decode("cp437") for tag in range(0xF1, 0xF9) if tag in fields)
        return DisplayText(shown, fields.get(0xF0, b"\0")[0]) if shown else None
    if apdu.command == SET_CLOCK:
        fields, _ = parse_fields(data)
        date, time = from_bcd(fields.get(0xAA, b"")), from_bcd(fields.get(0x0C, b""))
        return SetClock(date, time) if date and time else None
    if apdu.command == DIAGNOSIS:
        fields, _ = parse_fields(data)
        kind = find_tlv(parse_tlv(fields.get(0x06, b"")), _DIAGNOSIS_TYPE)
        return Plain(apdu.command, form=kind[0] if kind else 0)
    return Plain(apdu.command, from_bcd(data[:3]))


class Ack(Struct, frozen=True):
    """80 00 00 or 84 00 00: the command was taken."""


class Refusal(Struct, frozen=True):
    """84 xx: the command was not taken; 9C is busy, 83 not supported."""

    code: int


class StatusInformation(Struct, frozen=True):
    """04 0F: what the terminal says of a transaction. Absent fields are None or empty."""

    result_code: int | None = None
    amount_minor: int | None = None
    currency: str | None = None
    """None when the field is absent, "" when it holds a currency we do not know."""
    receipt_number: str = ""
    trace_number: str = ""
    original_trace: str = ""
    """Present in reversals: the trace number of what was reversed."""
    terminal_id: str = ""
    card_name: str = ""
    pan_last4: str = ""
    technology: str = ""
    verification: str = ""
    authorization_code: str = ""
    date: str = ""
    time: str = ""
    text: str = ""
    online: bool | None = None
    long_trace: str = ""
    """1F2B: the trace number of terminals that count beyond six digits."""
    application: str = ""
    """44: the label of the card's application."""
    application_id: str = ""
    """43, in hexadecimal."""
    extended_error: str = ""
    """1F16 and 1F17: the number behind a result code, and the terminal's words for it."""
    totals: tuple[int, int] | None = None
    """Count and sum in minor units of an end-of-day."""


class IntermediateStatus(Struct, frozen=True):
    """04 FF: what the terminal is doing."""

    code: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class PrintText:
    """06 D1 or 06 D3: lines of a receipt."""

    lines: tuple[str, ...] = field(repr=False)
    receipt: str = ""
    """For whom a block is (1F07): `merchant`, `cardholder`, `administration`; a single line does not say."""


@dataclass(frozen=True, slots=True)
class Completion:
    """06 0F: the command has ended well. Its data depend on the command."""

    data: bytes = field(default=b"", repr=False)


class Abort(Struct, frozen=True):
    """06 1E: the command has ended without effect; `code` is None when the terminal did not say why."""

    code: int | None


class Unsupported(Struct, frozen=True):
    """A command of the terminal that the hub does not serve."""

    command: int


Answer = Ack | Refusal | StatusInformation | IntermediateStatus | PrintText | Completion | Abort | Unsupported


def decode_answer(apdu: Apdu) -> Answer:
    """What the terminal says. Never raises; what cannot be read is absent from the value."""
    data = apdu.data
    if apdu.command >> 8 in (0x80, 0x84):
        return Ack() if apdu.command & 0xFF == 0 else Refusal(apdu.command & 0xFF)
    match apdu.command:
        case 0x040F:
            return decode_status_information(data)
        case 0x04FF:
            return _decode_intermediate(data)
        case 0x06D1:
            return PrintText((scrub_text(data[1:]),))
        case 0x06D3:
            tlv = _container(data)
            whose = _RECEIPTS.get(find_tlv(tlv, 0x1F07) or b"", "")
            return PrintText(tuple(scrub_text(line) for line in _text_lines(tlv)), whose)
        case 0x060F:
            return Completion(data)
        case 0x061E:
            return Abort(data[0] if data else None)
    return Unsupported(apdu.command)


def decode_status_information(data: bytes) -> StatusInformation:
    """Fields of 04 0F. A field that does not hold what it should counts as absent."""
    fields, _ = parse_fields(data)
    tlv = parse_tlv(fields.get(0x06, b""))
    amount = from_bcd(fields.get(0x04, b""))
    texts = [fields[0x3C]] if 0x3C in fields else list(_text_lines(tlv))
    # 1F11 in container 2F is PA00P015's online tag (01 online, 00 offline). Where a terminal leaves it out, the
    # intermediate status F3 is the only sign of an offline approval.
    online = {b"\x00": False, b"\x01": True}.get(find_tlv(tlv, 0x1F11) or b"")
    result = fields.get(0x27)
    return StatusInformation(
        result_code=result[0] if result else None,
        amount_minor=int(amount) if amount else None,
        currency=currency_of(fields[0x49]) if 0x49 in fields else None,
        receipt_number=from_bcd(fields.get(0x87, b"")),
        trace_number=from_bcd(fields.get(0x0B, b"")),
        original_trace=from_bcd(fields.get(0x37, b"")),
        terminal_id=from_bcd(fields.get(0x29, b"")),
        card_name=scrub_text(fields.get(0x8B, b"").rstrip(b"\0")),
        pan_last4=fields.get(0x22, b"").decode("ascii"),
        technology=_TECHNOLOGY.get(find_tlv(tlv, 0x1F12) or b"", ""),
        verification=_VERIFICATION.get(find_tlv(tlv, 0x1F10) or b"", ""),
        authorization_code=scrub_text(fields.get(0x3B, b"").rstrip(b"\0")),
        date=from_bcd(fields.get(0x0D, b"")),
        time=from_bcd(fields.get(0x0C, b"")),
        text=" ".join(scrub_text(text) for text in texts),
        online=online,
        long_trace=from_bcd(find_tlv(tlv, 0x1F2B) or b""),
        application=scrub_text(find_tlv(tlv, 0x44) or b""),
        application_id=_application_id(find_tlv(tlv, 0x43) or b""),
        extended_error=_extended_error(tlv),
        totals=_decode_totals(fields.get(0x60)),
    )


_APPLICATION_ID_BYTES = range(5, 17)
"""ISO 7816-5."""
_EXTENDED_ERROR_BYTES_MAX = 4


def _application_id(value: bytes) -> str:
    """ISO 7816-5: a registered identifier begins with A or D, which no card number does."""
    registered = len(value) in _APPLICATION_ID_BYTES and value[0] >> 4 in (0xA, 0xD)
    return mask_card_data(value.hex().upper()) if registered else ""


def _extended_error(tlv: tuple[Tlv, ...]) -> str:
    number, words = find_tlv(tlv, 0x1F16) or b"", find_tlv(tlv, 0x1F17) or b""
    code = number.hex().upper() if 0 < len(number) <= _EXTENDED_ERROR_BYTES_MAX else ""
    return f"{code} {scrub_text(words)}".strip()


def _decode_totals(value: bytes | None) -> tuple[int, int] | None:
    """Field 60: first and last receipt number, then per card scheme one count byte and a six-byte amount.

    None for what is malformed, and for a sum beyond any amount.
    """
    if value is None or len(value) < 4 or (len(value) - 4) % 7:
        return None
    count = total = 0
    for start in range(4, len(value), 7):
        amount = from_bcd(value[start + 1 : start + 7])
        if not amount:
            return None
        count, total = count + value[start], total + int(amount)
    return (count, total) if total <= AMOUNT_MAX else None


def encode_totals(first: str, last: str, count: int, total_minor: int) -> bytes:
    """Field 60 with all turnover under the first scheme; counts above 255 are spread over the seven."""
    out = bcd(first) + bcd(last)
    left = count
    for index in range(7):
        part = min(left, 255)
        out += bytes((part,)) + amount_to_bcd(total_minor if index == 0 else 0)
        left -= part
    return out


def _decode_intermediate(data: bytes) -> IntermediateStatus:
    if not data:
        return IntermediateStatus(0xFF)
    fields, _ = parse_fields(data[2:])
    lines = _text_lines(parse_tlv(fields.get(0x06, b"")))
    return IntermediateStatus(data[0], " ".join(scrub_text(line) for line in lines))


def _container(data: bytes) -> tuple[Tlv, ...]:
    fields, _ = parse_fields(data)
    return parse_tlv(fields.get(0x06, b""))


def _text_lines(elements: tuple[Tlv, ...]) -> tuple[bytes, ...]:
    return find_all_tlv(elements, 0x07)


class RegistrationResult(Struct, frozen=True):
    """What a completion of 06 00 says."""

    terminal_id: str = ""
    status: int = 0
    """Bit 0: initialisation needed; bit 1: diagnosis needed."""


def decode_registration(completion: Completion) -> RegistrationResult:
    """Fields 19 and 29 of the completion of a registration."""
    fields, _ = parse_fields(completion.data)
    status = fields.get(0x19)
    return RegistrationResult(from_bcd(fields.get(0x29, b"")), status[0] if status else 0)


def decode_terminal_status(completion: Completion) -> int:
    """The status byte in the completion of 05 01, behind an optional software version; 0 when absent."""
    _, rest = _version_and_rest(completion.data)
    return rest[0] if rest else 0


def decode_software(completion: Completion) -> str:
    """The device's name and the version of its software in the completion of 05 01; empty without a version.

    They stand in the container of the device (E4: 1F40 its name, 1F41 its version), or the version before the status.
    """
    version, rest = _version_and_rest(completion.data)
    elements = _container(rest[1:])
    name, version = find_tlv(elements, DEVICE_NAME) or b"", find_tlv(elements, DEVICE_SOFTWARE) or version
    if not version:
        return ""
    return " ".join(f"{scrub_text(name)} {scrub_text(version)}".split())[:SOFTWARE_CHARACTERS_MAX]


def _version_and_rest(data: bytes) -> tuple[bytes, bytes]:
    """The version that may stand before the status byte (LLLVAR: Fx Fy Fz and so many bytes), and what follows it."""
    if len(data) > 3 and all(byte >> 4 == 0xF for byte in data[:3]):
        end = 3 + (data[0] & 0xF) * 100 + (data[1] & 0xF) * 10 + (data[2] & 0xF)
        return data[3:end], data[end:]
    return b"", data
