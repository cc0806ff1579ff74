"""nexo requests and responses as values: what the hub sends is encoded, what a terminal says is decoded. Pure.

An answer has lost its card data here: of a card number its last four digits remain, and of expiry date, track, alias,
cardholder's name and the rest of `AdditionalResponse` nothing.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct, field

from drivers.nexo_codec import (
    RECEIPT_LINES_MAX,
    NexoMessageError,
    additional_pairs,
    amount_literal,
    money_of,
    name_only,
    receipt_line,
    scrub,
)
from hubd.model.money import Money

PAYMENT, REVERSAL, TRANSACTION_STATUS, ABORT = "Payment", "Reversal", "TransactionStatus", "Abort"
DIAGNOSIS, LOGIN, RECONCILIATION = "Diagnosis", "Login", "Reconciliation"
SUCCESS, FAILURE, PARTIAL = "Success", "Failure", "Partial"
SOFTWARE, LANGUAGE = "hubd", "en"
COUNT_MAX = 10**9

T = TypeVar("T")
Body = dict[str, object]


class TransactionId(Struct, frozen=True):
    """TransactionIdentificationType: only both together name a transaction."""

    transaction_id: str = field(name="TransactionID", default="")
    time_stamp: str = field(name="TimeStamp", default="")


class MessageReference(Struct, frozen=True, kw_only=True):
    """Names an earlier message of the hub."""

    category: str = field(name="MessageCategory", default="")
    service_id: str = field(name="ServiceID", default="")
    sale_id: str = field(name="SaleID", default="")
    poiid: str = field(name="POIID", default="")


# -- requests ----------------------------------------------------------------------------------------------------------


def payment_request(reference: str, amount: Money, at: str) -> Body:
    """Take a payment. `reference` comes back with the answer; `at` is RFC 3339."""
    amounts = {"Currency": amount.currency, "RequestedAmount": amount_literal(amount)}
    return {
        "PaymentRequest": {
            "SaleData": {"SaleTransactionID": TransactionId(reference, at)},
            "PaymentTransaction": {"AmountsReq": amounts},
        }
    }


def reversal_request(reference: str, original: TransactionId, amount: Money, at: str) -> Body:
    """Undo a payment in full, named by the terminal's own id of it."""
    return {
        "ReversalRequest": {
            "SaleData": {"SaleTransactionID": TransactionId(reference, at)},
            "OriginalPOITransaction": {"POITransactionID": original},
            "ReversedAmount": amount_literal(amount),
            "ReversalReason": "MerchantCancel",
        }
    }


def status_request(reference: MessageReference) -> Body:
    """Ask what became of an earlier message. Moves no money."""
    return {"TransactionStatusRequest": {"MessageReference": reference, "ReceiptReprintFlag": False}}


def abort_request(reference: MessageReference) -> Body:
    """Stop an earlier message; its own answer then says what happened. Answered with an empty body."""
    return {"AbortRequest": {"AbortReason": "MerchantAbort", "MessageReference": reference}}


def diagnosis_request(*, with_host: bool) -> Body:
    """Ask the terminal how it is and, with `with_host`, whether it reaches its host."""
    return {"DiagnosisRequest": {"HostDiagnosisFlag": with_host}}


def login_request(at: str) -> Body:
    """Begin to count: totals exist only after a login."""
    software = {
        "ManufacturerID": SOFTWARE,
        "ApplicationName": SOFTWARE,
        "SoftwareVersion": "1",
        "CertificationCode": "none",
    }
    return {"LoginRequest": {"DateTime": at, "OperatorLanguage": LANGUAGE, "SaleSoftware": software}}


def reconciliation_request() -> Body:
    """End the period that the terminal counts and begin the next one."""
    return {"ReconciliationRequest": {"ReconciliationType": "SaleReconciliation"}}


# -- what stands on the wire -------------------------------------------------------------------------------------------


class _Response(Struct):
    result: str = field(name="Result", default="")
    condition: str = field(name="ErrorCondition", default="")
    additional: str = field(name="AdditionalResponse", default="")


class _SaleData(Struct):
    transaction: TransactionId = field(name="SaleTransactionID", default=TransactionId())


class _PoiData(Struct):
    transaction: TransactionId = field(name="POITransactionID", default=TransactionId())


class _Acquirer(Struct):
    terminal: str = field(name="AcquirerPOIID", default="")
    approval_code: str = field(name="ApprovalCode", default="")
    transaction: TransactionId = field(name="AcquirerTransactionID", default=TransactionId())


class _Card(Struct):
    entry_mode: list[str] | str = field(name="EntryMode", default="")
    masked_pan: str = field(name="MaskedPan", default="")
    brand: str = field(name="PaymentBrand", default="")


class _Instrument(Struct):
    card: _Card | None = field(name="CardData", default=None)


class _Amounts(Struct):
    currency: str = field(name="Currency", default="")
    authorized: Decimal | None = field(name="AuthorizedAmount", default=None)


class _PaymentResult(Struct):
    online: bool | None = field(name="OnlineFlag", default=None)
    amounts: _Amounts = field(name="AmountsResp", default_factory=_Amounts)
    acquirer: _Acquirer = field(name="PaymentAcquirerData", default_factory=_Acquirer)
    instrument: _Instrument = field(name="PaymentInstrumentData", default_factory=_Instrument)


class _Line(Struct):
    text: str = field(name="Text", default="")


class _Output(Struct):
    lines: list[_Line] = field(name="OutputText", default_factory=list)


class _Receipt(Struct):
    qualifier: str = field(name="DocumentQualifier", default="")
    content: _Output = field(name="OutputContent", default_factory=_Output)


class _PaymentResponse(Struct):
    response: _Response = field(name="Response")
    sale: _SaleData = field(name="SaleData", default_factory=_SaleData)
    poi: _PoiData = field(name="POIData", default_factory=_PoiData)
    result: _PaymentResult = field(name="PaymentResult", default_factory=_PaymentResult)
    receipts: list[_Receipt] = field(name="PaymentReceipt", default_factory=list)


class _Original(Struct):
    transaction: TransactionId | None = field(name="POITransactionID", default=None)


class _ReversalResponse(Struct):
    response: _Response = field(name="Response")
    poi: _PoiData = field(name="POIData", default_factory=_PoiData)
    original: _Original = field(name="OriginalPOITransaction", default_factory=_Original)
    amount: Decimal | None = field(name="ReversedAmount", default=None)
    receipts: list[_Receipt] = field(name="PaymentReceipt", default_factory=list)


class _Repeated(Struct):
    header: Raw = field(name="MessageHeader")
    body: dict[str, Raw] = field(name="RepeatedResponseMessageBody", default_factory=dict)


class _StatusResponse(Struct):
    response: _Response = field(name="Response")
    reference: MessageReference | None = field(name="MessageReference", default=None)
    repeated: _Repeated | None = field(name="RepeatedMessageResponse", default=None)


class _PoiStatus(Struct):
    global_status: str = field(name="GlobalStatus", default="")


class _HostStatus(Struct):
    reachable: bool = field(name="IsReachableFlag", default=False)


class _DiagnosisResponse(Struct):
    response: _Response = field(name="Response")
    poi: _PoiStatus = field(name="POIStatus", default_factory=_PoiStatus)
    hosts: list[_HostStatus] = field(name="HostStatus", default_factory=list)


class _PaymentTotals(Struct):
    kind: str = field(name="TransactionType", default="")
    count: int = field(name="TransactionCount", default=0)
    amount: Decimal = field(name="TransactionAmount", default=Decimal(0))


class _TransactionTotals(Struct):
    currency: str = field(name="PaymentCurrency", default="")
    payments: list[_PaymentTotals] = field(name="PaymentTotals", default_factory=list)


class _ReconciliationResponse(Struct):
    response: _Response = field(name="Response")
    period: str | int = field(name="POIReconciliationID", default="")
    totals: list[_TransactionTotals] = field(name="TransactionTotals", default_factory=list)


class _LoginResponse(Struct):
    response: _Response = field(name="Response")


# -- what the driver sees ----------------------------------------------------------------------------------------------


class Reply(Struct, frozen=True):
    """How a request ended: the terminal's own two words."""

    result: str
    condition: str = ""
    """ErrorCondition; empty with Success."""


class PaymentReply(Struct, frozen=True, kw_only=True):
    """A PaymentResponse without its card data."""

    reply: Reply
    reference: str = ""
    """SaleTransactionID: the hub's own reference, repeated."""
    transaction: TransactionId = TransactionId()
    amount: Money | None = None
    other_amount: bool = False
    """Whether the host's data name another amount than the terminal's."""
    online: bool | None = None
    offline_marked: bool = False
    """`offline=true` or an `offlineAuthCode`, whatever that says: "declined" in it means stored and forwarded."""
    approval_code: str = ""
    acquirer_transaction: str = ""
    terminal_id: str = ""
    card_name: str = ""
    pan_last4: str = ""
    technology: str = ""
    verification: str = ""
    lines: tuple[str, ...] = ()


class ReversalReply(Struct, frozen=True, kw_only=True):
    """A ReversalResponse. What it says it has undone is empty where it does not say."""

    reply: Reply
    transaction: TransactionId = TransactionId()
    original: TransactionId | None = None
    amount: Decimal | None = None
    lines: tuple[str, ...] = ()


class StatusReply(Struct, frozen=True, kw_only=True):
    """A TransactionStatusResponse; `repeated` is the original response with the header it was given then."""

    reply: Reply
    reference: MessageReference | None = None
    repeated_header: Raw | None = None
    repeated: PaymentReply | ReversalReply | None = None


class DiagnosisReply(Struct, frozen=True, kw_only=True):
    """A DiagnosisResponse."""

    reply: Reply
    global_status: str = ""
    """OK, Busy, Maintenance, Unreachable, or what a terminal may say beside."""
    host_reachable: bool = False
    unconfirmed_count: int | None = None
    """Payments that the terminal has taken and not sent to its host yet."""
    firmware: str = ""


class TotalsReply(Struct, frozen=True, kw_only=True):
    """A ReconciliationResponse: what the ended period holds, refunds and reversals taken off."""

    reply: Reply
    period: str = ""
    count: int | None = None
    total: Money | None = None


def _decode(content: Raw, name: str, kind: type[T]) -> T:
    """The member `name` of a message. Raises `NexoMessageError` `malformed`."""
    try:
        members = msgspec.json.decode(content, type=dict[str, Raw])
        return msgspec.json.decode(members[name], type=kind)
    except (KeyError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NexoMessageError("malformed") from None


def decode_payment(content: Raw) -> PaymentReply:
    """`PaymentResponse` of a message; raises `NexoMessageError` `malformed`."""
    return _payment(_decode(content, "PaymentResponse", _PaymentResponse))


def decode_reversal(content: Raw) -> ReversalReply:
    """`ReversalResponse` of a message; raises `NexoMessageError` `malformed`."""
    return _reversal(_decode(content, "ReversalResponse", _ReversalResponse))


def decode_status(content: Raw) -> StatusReply:
    """`TransactionStatusResponse` of a message; raises `NexoMessageError` `malformed`."""
    said = _decode(content, "TransactionStatusResponse", _StatusResponse)
    repeated: PaymentReply | ReversalReply | None = None
    if said.repeated is not None and "PaymentResponse" in said.repeated.body:
        repeated = decode_payment(Raw(msgspec.json.encode(said.repeated.body)))
    elif said.repeated is not None and "ReversalResponse" in said.repeated.body:
        repeated = decode_reversal(Raw(msgspec.json.encode(said.repeated.body)))
    return StatusReply(
        reply=_reply(said.response),
        reference=said.reference,
        repeated_header=said.repeated.header if said.repeated else None,
        repeated=repeated,
    )


def decode_diagnosis(content: Raw) -> DiagnosisReply:
    """`DiagnosisResponse` of a message; raises `NexoMessageError` `malformed`."""
    said = _decode(content, "DiagnosisResponse", _DiagnosisResponse)
    pairs = additional_pairs(said.response.additional)
    held = pairs.get("unconfirmedBatchCount", "")
    return DiagnosisReply(
        reply=_reply(said.response),
        global_status=name_only(said.poi.global_status),
        host_reachable=bool(said.hosts) and all(host.reachable for host in said.hosts),
        unconfirmed_count=int(held) if re.fullmatch(r"[0-9]{1,6}", held) else None,
        firmware=name_only(pairs.get("firmwareVersion", "")),
    )


def decode_login(content: Raw) -> Reply:
    """`LoginResponse` of a message; raises `NexoMessageError` `malformed`."""
    return _reply(_decode(content, "LoginResponse", _LoginResponse).response)


_SIGNS = {"Debit": 1, "Credit": -1, "ReverseDebit": -1, "ReverseCredit": 1}


def decode_totals(content: Raw) -> TotalsReply:
    """`ReconciliationResponse` of a message; raises `NexoMessageError` `malformed`.

    With several currencies, or a kind of transaction that is not known, there is no total.
    """
    said = _decode(content, "ReconciliationResponse", _ReconciliationResponse)
    reply, period = _reply(said.response), name_only(str(said.period))
    counted = [(group.currency, one) for group in said.totals for one in group.payments]
    known = all(one.kind in _SIGNS and 0 <= one.count <= COUNT_MAX for _, one in counted)
    amounts = [money_of(one.amount, currency) for currency, one in counted]
    currencies = {currency for currency, _ in counted}
    if not known or len(currencies) != 1 or None in amounts:
        return TotalsReply(reply=reply, period=period)
    total = sum(
        amount.amount_minor * _SIGNS[one.kind] for amount, (_, one) in zip(amounts, counted, strict=True) if amount
    )
    count = sum(one.count * _SIGNS[one.kind] for _, one in counted)
    return TotalsReply(reply=reply, period=period, count=count, total=Money(total, currencies.pop()))


def _reply(response: _Response) -> Reply:
    return Reply(name_only(response.result), name_only(response.condition))


def _payment(said: _PaymentResponse) -> PaymentReply:
    pairs = additional_pairs(said.response.additional)
    result, acquirer = said.result, said.result.acquirer
    card = result.instrument.card or _Card()
    amount = money_of(result.amounts.authorized, result.amounts.currency)
    return PaymentReply(
        reply=_reply(said.response),
        reference=name_only(said.sale.transaction.transaction_id),
        transaction=_named(said.poi.transaction),
        amount=amount,
        other_amount=amount is not None and _names_other(pairs, amount),
        online=result.online,
        offline_marked=pairs.get("offline") == "true" or bool(pairs.get("offlineAuthCode")),
        approval_code=name_only(acquirer.approval_code),
        acquirer_transaction=name_only(acquirer.transaction.transaction_id),
        terminal_id=name_only(acquirer.terminal),
        card_name=scrub(card.brand),
        pan_last4=_last4(card.masked_pan) or _last4(pairs.get("cardSummary", "")),
        technology=_technology(card.entry_mode),
        verification=_verification(pairs.get("cardHolderVerificationMethodResults", "")),
        lines=_lines(said.receipts),
    )


def _reversal(said: _ReversalResponse) -> ReversalReply:
    original = said.original.transaction
    return ReversalReply(
        reply=_reply(said.response),
        transaction=_named(said.poi.transaction),
        original=_named(original) if original else None,
        amount=said.amount,
        lines=_lines(said.receipts),
    )


def _named(transaction: TransactionId) -> TransactionId:
    return TransactionId(name_only(transaction.transaction_id), name_only(transaction.time_stamp))


def _names_other(pairs: dict[str, str], amount: Money) -> bool:
    """Whether posAuthAmountValue (in minor units) or its currency contradicts AmountsResp."""
    value, currency = pairs.get("posAuthAmountValue", ""), pairs.get("posAuthAmountCurrency", "")
    return value not in ("", str(amount.amount_minor)) or currency not in ("", amount.currency)


def _last4(masked: str) -> str:
    found = re.search(r"[0-9]{4}\Z", masked.strip())
    return found[0] if found else ""


_TECHNOLOGY = {
    "Contactless": "contactless", "Tapped": "contactless", "ICC": "chip", "SynchronousICC": "chip",
    "MagStripe": "swipe", "Keyed": "manual", "Manual": "manual",
}  # fmt: skip


def _technology(modes: list[str] | str) -> str:
    named = [modes] if isinstance(modes, str) else modes
    return next((_TECHNOLOGY[mode] for mode in named if mode in _TECHNOLOGY), "")


_VERIFICATION = {0x1E: "signature", 0x1F: "none", 0x3F: "none", 0x01: "pin", 0x02: "pin", 0x03: "pin", 0x04: "pin",
                 0x05: "pin"}  # fmt: skip


def _verification(results: str) -> str:
    """EMV CVM results: the method is in the low six bits of the first byte."""
    if re.fullmatch(r"[0-9A-Fa-f]{6}", results) is None:
        return ""
    return _VERIFICATION.get(int(results[:2], 16) & 0x3F, "")


def _lines(receipts: list[_Receipt]) -> tuple[str, ...]:
    """The customer's receipt, or the first other one."""
    chosen = [one for one in receipts if one.qualifier == "CustomerReceipt"] or receipts
    lines = chosen[0].content.lines[:RECEIPT_LINES_MAX] if chosen else []
    return tuple(filter(None, (receipt_line(one.text) for one in lines)))
