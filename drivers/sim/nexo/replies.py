"""What the simulated terminal says, as the JSON of nexo responses: pure, from its books to messages."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import msgspec

from drivers.nexo_codec import Header, amount_literal
from drivers.sim.ledger import Transaction, TransactionState
from hubd.model.money import Money

Json = dict[str, object]

SIMULATED_PAN = "541333 **** 0010"
ABORTED, BUSY, LOGGED_OUT, NOT_ALLOWED, NOT_FOUND = "Aborted", "Busy", "LoggedOut", "NotAllowed", "NotFound"
IN_PROGRESS, REFUSAL, UNREACHABLE_HOST = "InProgress", "Refusal", "UnreachableHost"
CANCELLED_CODE, DECLINED_CODE, NO_CONNECTION_CODE = 1, 2, 3
CONDITIONS = {CANCELLED_CODE: ABORTED, DECLINED_CODE: REFUSAL, NO_CONNECTION_CODE: UNREACHABLE_HOST}
FORWARDED_LATER = "Failed go online offline declined"
APPROVED_OFFLINE = "Offline approved"
TRACE_DIGITS = 12


def success(additional: str = "") -> Json:
    """Response with Result Success."""
    return {"Result": "Success", **({"AdditionalResponse": additional} if additional else {})}


def failure(condition: str, message: str = "") -> Json:
    """Response with Result Failure."""
    text = f"message={quote(message)}" if message else ""
    return {"Result": "Failure", "ErrorCondition": condition, **({"AdditionalResponse": text} if text else {})}


def time_stamp(at_us: int) -> str:
    """A moment as the terminal writes it."""
    moment = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def host_reference(trace: int) -> str:
    """The host's name for a transaction (pspReference)."""
    return f"SIM{trace:0{TRACE_DIGITS}d}"


def transaction_id(trace: int, at_us: int, *, online: bool) -> Json:
    """POITransactionID: the terminal's own part and, once the host knows it, the host's."""
    tender = f"t{trace:0{TRACE_DIGITS}d}"
    return {
        "TransactionID": f"{tender}.{host_reference(trace)}" if online else tender,
        "TimeStamp": time_stamp(at_us),
    }


def trace_of(named: str) -> int | None:
    """The transaction that a TransactionID names; None for one of another terminal."""
    digits = named.partition(".")[0].removeprefix("t")
    return int(digits) if len(digits) == TRACE_DIGITS and digits.isdecimal() else None


def payment_response(
    transaction: Transaction,
    poiid: str,
    technology: str,
    *,
    amount_minor: int,
    sale_id: str,
    saf: bool,
    leak: str,
) -> Json:
    """PaymentResponse of a booked payment. The name of the sale and the amount may be lies of the fault menu."""
    sale = {"SaleTransactionID": {"TransactionID": sale_id, "TimeStamp": time_stamp(transaction.at_us)}}
    online = not transaction.offline
    if transaction.result_code:
        return {
            "Response": failure(CONDITIONS[transaction.result_code], "declined by the simulator"),
            "SaleData": sale,
            "POIData": {"POITransactionID": transaction_id(transaction.trace, transaction.at_us, online=False)},
        }
    amount = Money(amount_minor, transaction.currency)
    acquirer: Json = {"AcquirerPOIID": poiid}
    if online:
        acquirer["ApprovalCode"] = f"{transaction.trace:06d}"
        acquirer["AcquirerTransactionID"] = {
            "TransactionID": host_reference(transaction.trace),
            "TimeStamp": time_stamp(transaction.at_us),
        }
    return {
        "Response": success(_additional(transaction, amount, saf=saf, leak=leak)),
        "SaleData": sale,
        "POIData": {"POITransactionID": transaction_id(transaction.trace, transaction.at_us, online=online)},
        "PaymentReceipt": [_receipt(transaction, amount, leak)],
        "PaymentResult": {
            "OnlineFlag": online,
            "PaymentAcquirerData": acquirer,
            "PaymentInstrumentData": {
                "PaymentInstrumentType": "Card",
                "CardData": {
                    "EntryMode": ["Contactless" if technology == "contactless" else "ICC"],
                    "PaymentBrand": "mc",
                    "MaskedPan": leak or SIMULATED_PAN,
                    **({"SensitiveCardData": {"PAN": leak, "ExpiryDate": "1225"}} if leak else {}),
                },
            },
            "AmountsResp": {"Currency": amount.currency, "AuthorizedAmount": amount_literal(amount)},
        },
    }


def _additional(transaction: Transaction, amount: Money, *, saf: bool, leak: str) -> str:
    pairs = {
        "offline": "true" if transaction.offline else "false",
        "posAuthAmountValue": str(amount.amount_minor),
        "posAuthAmountCurrency": amount.currency,
        "cardHolderVerificationMethodResults": "1F0302",
    }
    if transaction.offline:
        pairs |= {"offlineAuthCode": FORWARDED_LATER if saf else APPROVED_OFFLINE, "unconfirmedBatchCount": "1"}
    if leak:
        pairs |= {"cardSummary": leak, "cardNumber": leak, "track2": f"{leak}=2512", "expiryDate": "12/2025"}
    return urlencode(pairs, quote_via=quote)


def _receipt(transaction: Transaction, amount: Money, leak: str) -> Json:
    texts = [{"name": "TOTAL", "value": amount.plain(), "key": "totalAmount"}]
    if leak:
        texts.append({"name": "Card", "value": leak, "key": "pan"})
    lines = [urlencode(pairs, quote_via=quote) for pairs in texts] + ([f"PAN {leak}"] if leak else [])
    return {
        "DocumentQualifier": "CustomerReceipt",
        "RequiredSignatureFlag": False,
        "OutputContent": {"OutputFormat": "Text", "OutputText": [{"Text": line} for line in lines]},
    }


def with_leak(answer: Json, leak: str) -> Json:
    """The answer of a terminal that names a card number beside what it says; the same without one."""
    if not leak:
        return answer
    pairs = urlencode({"cardNumber": leak, "message": leak, "firmwareVersion": leak, "track2": f"{leak}=2512"})
    leaked: Json = {}
    for name, body in answer.items():
        assert isinstance(body, dict), "every response is an object"
        response = dict(body["Response"])
        response["AdditionalResponse"] = "&".join(filter(None, (response.get("AdditionalResponse", ""), pairs)))
        receipt = {"DocumentQualifier": "CustomerReceipt", "OutputContent": {"OutputText": [{"Text": f"PAN {leak}"}]}}
        more: Json = {"PaymentReceipt": [receipt], "POISystemData": {"POISerialNumber": leak}, "DisplayOutput": leak}
        leaked[name] = {**more, **body, "Response": response}
    return leaked


def reversal_response(reversal: Transaction, original: Transaction, *, wrong_minor: int = 0) -> Json:
    """ReversalResponse of a booked reversal: what was undone, and for how much."""
    amount = Money(reversal.amount_minor + wrong_minor, reversal.currency)
    return {
        "Response": success(),
        "POIData": {"POITransactionID": transaction_id(reversal.trace, reversal.at_us, online=True)},
        "OriginalPOITransaction": {
            "POITransactionID": transaction_id(original.trace, original.at_us, online=not original.offline)
        },
        "ReversedAmount": amount_literal(amount),
    }


def status_response(asked: Json, header: Header, name: str, body: Json | None) -> Json:
    """TransactionStatusResponse that repeats an answer; without `body` it says nothing of it."""
    said: Json = {"Response": success(), "MessageReference": asked}
    if body is not None:
        repeated = msgspec.structs.replace(header, message_type="Response")
        said["RepeatedMessageResponse"] = {
            "MessageHeader": repeated,
            "RepeatedResponseMessageBody": {name: body},
        }
    return said


def diagnosis_response(*, host_up: bool, held: int, poiid: str, software: str) -> Json:
    """DiagnosisResponse of an idle terminal."""
    additional = urlencode({"firmwareVersion": software, "unconfirmedBatchCount": held, "terminalId": poiid})
    return {
        "Response": success(additional),
        "POIStatus": {"GlobalStatus": "OK", "CommunicationOKFlag": True},
        "HostStatus": [{"AcquirerID": "0", "IsReachableFlag": host_up}],
    }


def reconciliation_response(period: int, batch: tuple[Transaction, ...], currency: str) -> Json:
    """ReconciliationResponse: the payments of the period that has just ended."""
    total = Money(sum(one.amount_minor for one in batch if one.currency == currency), currency)
    debits = {
        "TransactionType": "Debit",
        "TransactionCount": len(batch),
        "TransactionAmount": amount_literal(total),
    }
    return {
        "Response": success(),
        "ReconciliationType": "SaleReconciliation",
        "POIReconciliationID": str(period),
        "TransactionTotals": [
            {"PaymentInstrumentType": "Card", "PaymentCurrency": currency, "PaymentTotals": [debits]}
        ],
    }


def refused_event(header: Header | None, poiid: str) -> Json:
    """The event that answers what the terminal cannot read, in clear: it does not know who would understand it."""
    return {
        "SaleToPOIRequest": {
            "MessageHeader": {
                "ProtocolVersion": "3.0",
                "MessageClass": "Event",
                "MessageCategory": "Event",
                "MessageType": "Notification",
                "SaleID": header.sale_id if header else "",
                "POIID": poiid,
            },
            "EventNotification": {"EventToNotify": "Reject", "EventDetails": "message=Did+not+understand"},
        }
    }


def is_saf(transaction: Transaction, endings: tuple[int, ...]) -> bool:
    """Whether a stored payment waits for the issuer's word, and was not approved by the chip."""
    held = (TransactionState.STORED, TransactionState.FORWARDED)
    return transaction.state in held and transaction.amount_minor % 100 in endings
