"""POSLink requests and answers as values, without card data. Pure.

Sources: the vectors of PAX's samples, the positions of groups and fields as published clients read them, and the codes
of PAX's published headers and of BridgePay's list "PAX POSLink Response Codes". Card numbers, expiry dates, names and
tracks are dropped here: of a card only its last four digits, its kind and its label pass.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from msgspec import Struct

from drivers.poslink_codec import Frame
from hubd.model.card_data import holds_card_data

VERSION = "1.28"
INITIALIZE, CANCEL, DO_CREDIT, BATCH_CLOSE, SAF_UPLOAD = "A00", "A14", "T00", "B00", "B08"
DETAIL_REPORT, HOST_REPORT, HISTORY_REPORT, SAF_REPORT, STATUS_REPORT = "R02", "R06", "R08", "R10", "A35"
SALE, VOID, VOID_SALE = "01", "16", "17"
ALL_EDC, SAF_NEW, SAF_ALL = "00", "0", "2"

OK, APPROVED_OFFLINE, PARTIALLY_APPROVED, NO_SURCHARGE = "000000", "000001", "000002", "000003"
DECLINE, CARD_READ_OK, OUT_OF_BALANCE = "000100", "000200", "000300"
TIMEOUT, ABORTED, ERROR, UNSUPPORTED, UNSUPPORTED_EDC = "100001", "100002", "100003", "100004", "100005"
INVALID_HOST_ANSWER, SEND_ERROR, RECEIVE_ERROR, COMM_ERROR = "100007", "100008", "100009", "100010"
DUPLICATE, ALREADY_VOIDED, NOT_FOUND = "100011", "100021", "100023"

RESULT_TEXT = {
    OK: "no_content",
    DECLINE: "declined", CARD_READ_OK: "card_not_for_payment", TIMEOUT: "timeout", ABORTED: "cancelled",
    ERROR: "request_refused", UNSUPPORTED: "unsupported", UNSUPPORTED_EDC: "unsupported",
    INVALID_HOST_ANSWER: "host_error", SEND_ERROR: "host_error", RECEIVE_ERROR: "host_error", COMM_ERROR: "host_error",
    DUPLICATE: "duplicate", ALREADY_VOIDED: "already_voided", NOT_FOUND: "not_found",
    PARTIALLY_APPROVED: "partially_approved",
}  # fmt: skip
"""Codes whose meaning is published, as reasons. Those that are not here become `answer_` and the code."""

REFERENCE_DIGITS = 12
"""Terminals were seen to refuse a longer invoice number, and a reference beyond 16 characters."""
AMOUNT_MAX = 999_999_999
"""Minor units; nine digits."""
TOTAL_MAX = 10**12 - 1
"""Minor units; no batch holds more."""
STORED_NUMBERS, FAILED_NUMBERS = range(5001, 9001), range(9001, 10_000)
"""Transaction numbers of the store-and-forward file, and of its records that the host has refused."""

_BUSY = frozenset({"SERVICE BUSY", "TERMINAL BUSY"})
_COMMAND = re.compile(r"[A-Z]\d\d")
_CODE = re.compile(r"\d{6}")
_NUMBER = re.compile(r"\d{1,4}")
_REFERENCE = re.compile(r"\d{1,12}")
_MOMENT = re.compile(r"20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])(?:[0-5]\d){2}")
_AMOUNT = re.compile(r"\d{1,12}")
_HEX = re.compile(r"[0-9A-Fa-f]{1,64}")
_TEXT_MAX = 64

_TECHNOLOGIES = {"0": "manual", "1": "swipe", "2": "contactless", "4": "chip", "5": "swipe"}
_VERIFICATIONS = {"1": "pin", "2": "pin", "3": "pin", "4": "pin", "5": "pin", "6": "signature", "7": "none"}
_CARDS = {
    "01": "Visa", "02": "Mastercard", "03": "American Express", "04": "Discover", "05": "Diners Club", "07": "JCB",
}  # fmt: skip
_EMV_LINES = ("AID", "TVR", "TSI", "TC", "ARC")


# --- requests -------------------------------------------------------------------------------------------------------


class Request(Struct, frozen=True):
    """One command: its groups behind the version, and the reference that a transaction's answer must repeat."""

    command: str
    groups: tuple[tuple[str, ...], ...] = ()
    reference: str = ""

    @property
    def answered_by(self) -> str:
        """The command of the answer: the next odd number."""
        return f"{self.command[0]}{int(self.command[1:]) + 1:02d}"


def encode_request(request: Request) -> Frame:
    """The frame of a command."""
    return Frame(((request.command,), (VERSION,), *request.groups))


def payment_reference(payment_id: str) -> str:
    """Twelve digits that stand for a payment's id: the same for the same id, and hardly ever for two.

    Two of n payments in one open batch share one with a chance of about n²/2·10⁻¹² (one in 80,000 batches of 5,000).
    Whoever reads a record by it must compare amount and time as well, and take two records as none.
    """
    digest = hashlib.sha256(payment_id.encode("utf-8")).digest()
    return f"{int.from_bytes(digest, 'big') % 10**REFERENCE_DIGITS:0{REFERENCE_DIGITS}d}"


def sale(amount_minor: int, reference: str) -> Request:
    """T00 with its nine groups. Raises ValueError for an amount that a terminal cannot take."""
    if not 0 < amount_minor <= AMOUNT_MAX:
        raise ValueError("The amount must be above zero and have at most nine digits.")
    return _credit(SALE, (str(amount_minor),), (reference,), reference)


def void(number: str, reference: str) -> Request:
    """T00 that undoes the transaction with this number of the open batch."""
    return _credit(VOID, ("",), (reference, "", "", number), reference)


def _credit(kind: str, amount: tuple[str, ...], trace: tuple[str, ...], reference: str) -> Request:
    nothing = ("",)
    groups = ((kind,), amount, nothing, trace, nothing, nothing, nothing, nothing, nothing)
    return Request(DO_CREDIT, groups, reference)


def detail(*, record: int | None = None, number: str = "", reference: str = "") -> Request:
    """R02 for one record: by its place in the batch, its transaction number, or the reference of its payment."""
    index = "" if record is None else str(record)
    fields = (ALL_EDC, "", "", index, number, "", reference, "")
    return Request(DETAIL_REPORT, tuple((text,) for text in fields))


# --- answers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What every answer begins with. The groups behind it may hold card data, so `repr` does not show them."""

    command: str
    code: str
    message: str
    status: str = "0"
    groups: tuple[tuple[str, ...], ...] = field(default=(), repr=False)

    @property
    def busy(self) -> bool:
        """Whether the terminal says that it cannot begin this now. No public list numbers it: its text tells."""
        return self.code[:1] == "1" and self.message.upper() in _BUSY

    @property
    def unsupported(self) -> bool:
        """Whether the terminal does not know this command."""
        return self.code in (UNSUPPORTED, UNSUPPORTED_EDC) or self.message.upper().startswith("UNSUPPORT")

    @property
    def not_found(self) -> bool:
        """Whether there is no such record. The code alone says several things."""
        return self.code == NOT_FOUND and "NOT FOUND" in self.message.upper()

    @property
    def reason(self) -> str:
        """A stable word for what is not a success."""
        return "terminal_busy" if self.busy else RESULT_TEXT.get(self.code, f"answer_{self.code}")


def decode_answer(frame: Frame) -> Answer | None:
    """The head of an answer, or None when the frame is none. The status in front is missing in some dialects."""
    groups = frame.groups
    if not groups or any(len(group) > 1 for group in groups[:1]):
        return None
    status = ""
    if not _COMMAND.fullmatch(groups[0][0]):
        status, groups = groups[0][0], groups[1:]
    if len(groups) < 3:
        return None
    command, code = groups[0][0], groups[2][0]
    if not _COMMAND.fullmatch(command) or not _CODE.fullmatch(code):
        return None
    message = _clean(groups[3][0]) if len(groups) > 3 else ""
    return Answer(command, code, message, _clean(status) or "0", groups[4:])


class Transaction(Struct, frozen=True):
    """What an answer or a record says of one transaction. Empty where it says nothing."""

    code: str = OK
    message: str = ""
    status: str = "0"
    kind: str = ""
    """Type by two digits: 01 sale, 16 void, 17 void of a sale."""
    host_code: str = ""
    host_message: str = ""
    authorization_code: str = ""
    amount_minor: int | None = None
    number: str = ""
    """Of the record in the terminal; what a void names."""
    reference: str = ""
    """The cash register's own, repeated."""
    at: str = ""
    """YYYYMMDDhhmmss by the terminal's clock."""
    pan_last4: str = ""
    card_name: str = ""
    technology: str = ""
    verification: str = ""
    lines: tuple[str, ...] = ()
    """What a receipt must name of a chip card."""

    @property
    def stored(self) -> bool:
        """Whether the terminal keeps it to send it to its host later."""
        return self.code == APPROVED_OFFLINE or (self.number.isdigit() and int(self.number) in STORED_NUMBERS)

    @property
    def failed(self) -> bool:
        """Whether it stands among the stored ones that the host has refused."""
        return self.number.isdigit() and int(self.number) in FAILED_NUMBERS


class Record(Struct, frozen=True):
    """One record of R03, and how many there are that fit what was asked."""

    total: int
    transaction: Transaction


def decode_transaction(answer: Answer) -> Transaction:
    """T01: host, type, amounts, account, trace, AVS, commercial, e-commerce, additional."""
    host, kind, amounts, account, trace, _avs, _commercial, _ecommerce, *additional = _padded(answer.groups, 8)
    return _transaction(answer, host, kind[0], amounts, account, trace, additional)


def decode_record(answer: Answer) -> Record | None:
    """R03: total, record, host, EDC type, type, original type, amounts, account, trace, …, additional; None without."""
    total, _record, host, _edc, kind, _original, amounts, account, trace, _a, _b, _c, *additional = _padded(
        answer.groups, 12
    )
    if not _NUMBER.fullmatch(total[0]) or not int(total[0]):
        return None
    return Record(int(total[0]), _transaction(answer, host, kind[0], amounts, account, trace, additional))


def _transaction(
    answer: Answer,
    host: tuple[str, ...],
    kind: str,
    amounts: tuple[str, ...],
    account: tuple[str, ...],
    trace: tuple[str, ...],
    additional: list[tuple[str, ...]],
) -> Transaction:
    extra = _named(additional)
    return Transaction(
        code=answer.code,
        message=answer.message,
        status=answer.status,
        kind=kind if re.fullmatch(r"\d\d", kind) else "",
        host_code=_clean(_at(host, 0)),
        host_message=_clean(_at(host, 1)),
        authorization_code=_clean(_at(host, 2)),
        amount_minor=int(amounts[0]) if _AMOUNT.fullmatch(amounts[0]) else None,
        number=_only(_NUMBER, _at(trace, 0)),
        reference=_only(_REFERENCE, _at(trace, 1)),
        at=_only(_MOMENT, _at(trace, 2)),
        pan_last4=_last4(account[0]),
        card_name=_clean(extra.get("APPLAB", "")) or _CARDS.get(_at(account, 6), ""),
        technology=_TECHNOLOGIES.get(_at(account, 1), ""),
        verification=_VERIFICATIONS.get(extra.get("CVM", ""), ""),
        lines=tuple(_clean(f"{name} {extra[name]}") for name in _EMV_LINES if _HEX.fullmatch(extra.get(name, ""))),
    )


class BatchTotals(Struct, frozen=True):
    """What a batch close says; None where it does not."""

    count: int | None
    amount_minor: int | None


def decode_batch_close(answer: Answer) -> BatchTotals:
    """B01: host, counts and amounts of every kind of payment."""
    _host, counts, amounts = _padded(answer.groups, 3)[:3]
    return BatchTotals(_sum(counts), _sum(amounts))


class SafUpload(Struct, frozen=True):
    """What an upload of stored transactions says; None where it does not."""

    total: int | None
    uploaded: int | None
    failed: int | None


def decode_saf_upload(answer: Answer) -> SafUpload:
    """B09: total count and amount, time, uploaded count and amount, failed count and total."""
    total, _amount, _at, uploaded, _uploaded_amount, failed = _padded(answer.groups, 6)[:6]
    return SafUpload(_sum(total), _sum(uploaded), _sum(failed))


def decode_serial_number(answer: Answer) -> str:
    """A01: the serial number stands first."""
    return _clean(answer.groups[0][0]) if answer.groups else ""


def decode_software(answer: Answer) -> str:
    """A01: behind the serial number stand the model's name and the version of its system; empty without a version."""
    model, version = (_clean(group[0]) if group else "" for group in _padded(answer.groups, 3)[1:3])
    return f"{model} {version}".strip() if version else ""


def batch_mark(answer: Answer) -> str:
    """R09: what names the last batch that was closed; the number of it, or else everything that is said of it."""
    number = answer.groups[3] if len(answer.groups) > 3 and any(answer.groups[3]) else None
    return digest_of((number,) if number else answer.groups)


def digest_of(groups: tuple[tuple[str, ...], ...]) -> str:
    """Eight hex digits that change with what the groups say."""
    return hashlib.sha256(repr(groups).encode("utf-8")).hexdigest()[:8]


def _padded(groups: tuple[tuple[str, ...], ...], count: int) -> tuple[tuple[str, ...], ...]:
    return groups + (("",),) * (count - len(groups))


def _at(group: tuple[str, ...], index: int) -> str:
    return group[index] if index < len(group) else ""


def _only(shape: re.Pattern[str], text: str) -> str:
    return text if shape.fullmatch(text) else ""


def _sum(group: tuple[str, ...]) -> int | None:
    """The sum of numbers by kind of payment; None when one is no number or none is said."""
    said = [text for text in group if text]
    if not said or not all(_AMOUNT.fullmatch(text) for text in said):
        return None
    total = sum(map(int, said))
    return total if total <= TOTAL_MAX else None


def _named(groups: list[tuple[str, ...]]) -> dict[str, str]:
    """Fields of the form NAME=value. Newer applications begin the group with an empty field."""
    pairs = (text.partition("=") for group in groups for text in group)
    return {name.upper(): value for name, equals, value in pairs if equals}


def _last4(account: str) -> str:
    digits = re.sub(r"\D", "", account)
    return digits[-4:] if len(digits) >= 4 else ""


def _clean(text: str) -> str:
    """Text that a person may read: nothing of it when it holds what looks like a card number."""
    text = "".join(character if character.isprintable() else " " for character in text).strip()
    return "****" if holds_card_data(text) else text[:_TEXT_MAX]
