"""OPI messages as values, both directions: the driver encodes what the simulator decodes, and back.

Pure. What stands in an answer has already lost its card data: a card number is its last four digits, tracks and expiry
dates are not read at all. `RequestFullPAN` cannot be said, so that no terminal is ever asked for a full number.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from drivers.opi_codec import (
    TEXT_CHARS_MAX,
    Element,
    Garbage,
    amount_text,
    clean_line,
    clean_value,
    last4_of,
    parse,
    parse_amount,
    render,
)
from hubd.model.money import AMOUNT_MINOR_MAX, Money

NAMESPACE = "http://www.nrf-arts.org/IXRetail/namespace"
APPLICATION: Final = "hubd"

CARD_PAYMENT, PAYMENT_REVERSAL = "CardPayment", "PaymentReversal"
CARD_REPEAT_LAST_MESSAGE, ABORT_REQUEST = "CardRepeatLastMessage", "AbortRequest"
LOGIN, LOGOFF, DIAGNOSIS, REPEAT_LAST_MESSAGE = "Login", "Logoff", "Diagnosis", "RepeatLastMessage"
SEND_OFFLINE, END_OF_DAY = "SendOfflineTransactions", "ReconciliationWithClosure"
ADMINISTRATION, ONLINE_AGENT = "Administration", "OnlineAgent"
OUTPUT, INPUT, ABORT_INPUT, EVENT = "Output", "Input", "AbortInput", "Event"
CASHIER_DISPLAY, PRINTER, PRINTER_RECEIPT = "CashierDisplay", "Printer", "PrinterReceipt"

SUCCESS, FAILURE, ABORTED, BUSY, LOGGED_OUT = "Success", "Failure", "Aborted", "Busy", "Loggedout"
DEVICE_UNAVAILABLE, COMMUNICATION_ERROR, TIMED_OUT = "DeviceUnavailable", "CommunicationError", "TimedOut"
ONLINE, OFFLINE = "Online", "Offline"

OUTPUTS_MAX = 8
LINES_MAX = 1000
TOTALS_MAX = 200

_PAYMENT_IDS_FROM, _PAYMENT_IDS = 100_000_000, 900_000_000


def request_id_of(kind: str, reference: str) -> str:
    """The RequestID of a payment or a reversal: nine digits that follow from its reference, after a restart too.

    The hub's other requests have fewer digits. Nine, because clients of others read the field into 32 bits. Two
    payments share one in a thousand million cases; an enquiry therefore compares the amount as well.
    """
    digest = hashlib.sha256(f"{kind}:{reference}".encode()).digest()
    return str(_PAYMENT_IDS_FROM + int.from_bytes(digest[:8], "big") % _PAYMENT_IDS)


class Till(Struct, frozen=True):
    """As whom the hub speaks; the terminal's service desk may ask for other values."""

    workstation_id: str = "1"
    pop_id: str = "001"
    language: str = ""
    """Of texts for the cashier, two letters; empty: the terminal's own."""


class CardServiceRequest(Struct, frozen=True):
    """Channel 0, hub to terminal: something about a card payment."""

    request_type: str
    request_id: str
    till: Till = Till()
    timestamp: str = ""
    """POSTimeStamp: 2024-02-09T09:36:36."""
    amount: Money | None = None
    original_stan: str = ""
    """Of the payment that a reversal undoes."""


class ServiceRequest(Struct, frozen=True):
    """Channel 0, hub to terminal: something about the terminal."""

    request_type: str
    request_id: str
    till: Till = Till()
    timestamp: str = ""


class Authorisation(Struct, frozen=True):
    """What the terminal says of the authorisation, as its own words."""

    authorisation_type: str = ""
    """Online; everything else is an approval without the issuer."""
    card_circuit: str = ""
    pan_last4: str = ""
    receipt_number: str = ""
    action_code: str = ""
    approval_code: str = ""
    timestamp: str = ""


class CardServiceResponse(Struct, frozen=True):
    """Channel 0, terminal to hub: the end of a card payment, or its repetition."""

    request_type: str
    request_id: str
    overall_result: str
    workstation_id: str = ""
    terminal_id: str = ""
    stan: str = ""
    original_stan: str = ""
    """Of the payment that a reversal has undone, where the terminal names it."""
    amount: Money | None = None
    """None when there is none that can be read."""
    authorisation: Authorisation | None = None
    technology: str = ""
    verification: str = ""
    error_code: str = ""
    error_text: str = ""


class Total(Struct, frozen=True):
    """One line of a reconciliation."""

    count: int | None
    amount: Money
    payment_type: str = ""
    card_circuit: str = ""


class ServiceResponse(Struct, frozen=True):
    """Channel 0, terminal to hub: the end of a service."""

    request_type: str
    request_id: str
    overall_result: str
    workstation_id: str = ""
    terminal_id: str = ""
    stan: str = ""
    totals: tuple[Total, ...] | None = None
    """None when there is no reconciliation that can be read in full."""
    error_code: str = ""
    error_text: str = ""


class Output(Struct, frozen=True):
    """Lines for one of the till's devices."""

    target: str
    lines: tuple[str, ...] = ()


class DeviceRequest(Struct, frozen=True):
    """Channel 1, terminal to hub: show, print or ask something."""

    request_type: str
    request_id: str
    workstation_id: str = ""
    sequence_id: str = ""
    terminal_id: str = ""
    outputs: tuple[Output, ...] = ()
    input_target: str = ""
    """The device from which something is to be read; empty when nothing is asked."""


class OutputResult(Struct, frozen=True):
    """What became of the lines for one device."""

    target: str
    result: str


class DeviceResponse(Struct, frozen=True):
    """Channel 1, hub to terminal. It never holds anything that a person has typed."""

    request_type: str
    request_id: str
    overall_result: str
    till: Till = Till()
    outputs: tuple[OutputResult, ...] = ()
    input: OutputResult | None = None


Request = CardServiceRequest | ServiceRequest
Response = CardServiceResponse | ServiceResponse
Message = Request | Response | DeviceRequest | DeviceResponse


# --- encoding -------------------------------------------------------------------------------------------------------


def encode(message: Message, encoding: str = "UTF-8") -> bytes:
    """The document of a message. Raises ValueError for an amount that OPI cannot say."""
    match message:
        case CardServiceRequest() | ServiceRequest():
            return render(_request(message), encoding)
        case CardServiceResponse():
            return render(_card_response(message), encoding)
        case ServiceResponse():
            return render(_service_response(message), encoding)
        case DeviceRequest():
            return render(_device_request(message), encoding)
        case DeviceResponse():
            return render(_device_response(message), encoding)


def _present(**attributes: str) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value}


def _request(message: Request) -> Element:
    till = message.till
    head = {
        "xmlns": NAMESPACE,
        "RequestType": message.request_type,
        "ApplicationSender": APPLICATION,
        "POPID": till.pop_id,
        "RequestID": message.request_id,
        "WorkstationID": till.workstation_id,
    }
    inside = [
        Element(
            "POSdata",
            _present(LanguageCode=till.language),
            children=(Element("POSTimeStamp", text=message.timestamp),) if message.timestamp else (),
        )
    ]
    if isinstance(message, ServiceRequest):
        return Element("ServiceRequest", head, children=tuple(inside))
    if message.amount is not None:
        inside.append(_amount(message.amount))
    if message.original_stan:
        inside.append(Element("OriginalTransaction", {"STAN": message.original_stan}))
    return Element("CardServiceRequest", head, children=tuple(inside))


def _amount(amount: Money, **attributes: str) -> Element:
    return Element("TotalAmount", {**_present(**attributes), "Currency": amount.currency}, amount_text(amount))


def _answer_head(message: Response) -> dict[str, str]:
    return {
        "RequestType": message.request_type,
        **_present(WorkstationID=message.workstation_id),
        "RequestID": message.request_id,
        "OverallResult": message.overall_result,
    }


def _terminal(message: Response) -> list[Element]:
    named = _present(TerminalID=message.terminal_id, STAN=message.stan)
    return [Element("Terminal", named)] if named else []


def _texts(**texts: str) -> tuple[Element, ...]:
    return tuple(Element(name, text=text) for name, text in texts.items() if text)


def _card_response(message: CardServiceResponse) -> Element:
    inside = _terminal(message)
    tender = [_amount(message.amount)] if message.amount is not None else []
    if message.authorisation is not None:
        tender.append(_authorisation(message.authorisation))
    if tender:
        inside.append(Element("Tender", children=tuple(tender)))
    if message.original_stan:
        inside.append(Element("OriginalTransaction", {"STAN": message.original_stan}))
    private = _texts(
        CardTechnologyType=message.technology,
        CardVerificationMethod=message.verification,
        ErrorCode=message.error_code,
        ErrorText=message.error_text,
    )
    if private:
        inside.append(Element("PrivateData", children=private))
    return Element("CardServiceResponse", _answer_head(message), children=tuple(inside))


def _authorisation(said: Authorisation) -> Element:
    attributes = _present(
        AuthorisationType=said.authorisation_type,
        CardCircuit=said.card_circuit,
        CardPAN=f"############{said.pan_last4}" if said.pan_last4 else "",
        ReceiptNumber=said.receipt_number,
        ActionCode=said.action_code,
        ApprovalCode=said.approval_code,
        TimeStamp=said.timestamp,
    )
    return Element("Authorisation", attributes)


def _service_response(message: ServiceResponse) -> Element:
    inside = _terminal(message)
    if message.totals is not None:
        totals = [
            _amount(
                total.amount,
                NumberPayments="" if total.count is None else str(total.count),
                PaymentType=total.payment_type,
                CardCircuit=total.card_circuit,
            )
            for total in message.totals
        ]
        inside.append(Element("Reconciliation", children=tuple(totals)))
    private = _texts(ErrorCode=message.error_code, ErrorText=message.error_text)
    if private:
        inside.append(Element("PrivateData", children=private))
    return Element("ServiceResponse", _answer_head(message), children=tuple(inside))


def _device_request(message: DeviceRequest) -> Element:
    head = {
        "RequestType": message.request_type,
        "RequestID": message.request_id,
        **_present(
            WorkstationID=message.workstation_id, SequenceID=message.sequence_id, TerminalID=message.terminal_id
        ),
    }
    inside = [
        Element(
            "Output",
            {"OutDeviceTarget": output.target},
            children=tuple(
                Element("TextLine", {"Column": "0", "Row": str(row)}, line) for row, line in enumerate(output.lines)
            ),
        )
        for output in message.outputs
    ]
    if message.input_target:
        inside.append(Element("Input", {"InDeviceTarget": message.input_target}))
    return Element("DeviceRequest", head, children=tuple(inside))


def _device_response(message: DeviceResponse) -> Element:
    head = {
        "xmlns": NAMESPACE,
        "RequestType": message.request_type,
        "ApplicationSender": APPLICATION,
        "POPID": message.till.pop_id,
        "RequestID": message.request_id,
        "WorkstationID": message.till.workstation_id,
        "OverallResult": message.overall_result,
    }
    inside = [Element("Output", {"OutDeviceTarget": one.target, "OutResult": one.result}) for one in message.outputs]
    if message.input is not None:
        inside.append(Element("Input", {"InDeviceTarget": message.input.target, "InResult": message.input.result}))
    return Element("DeviceResponse", head, children=tuple(inside))


# --- decoding -------------------------------------------------------------------------------------------------------


def decode(document: bytes) -> Message | Garbage:
    """A message. Never raises; what cannot be read inside one is absent from the value."""
    root = parse(document)
    if isinstance(root, Garbage):
        return root
    match root.name:
        case "CardServiceRequest":
            return _decode_card_request(root)
        case "ServiceRequest":
            return ServiceRequest(*_named(root), _decode_till(root), root.at("POSdata", "POSTimeStamp").text)
        case "CardServiceResponse":
            return _decode_card_response(root)
        case "ServiceResponse":
            return _decode_service_response(root)
        case "DeviceRequest":
            return _decode_device_request(root)
        case "DeviceResponse":
            return _decode_device_response(root)
    return Garbage("not_opi")


def _named(root: Element) -> tuple[str, str]:
    return root.value("RequestType"), root.value("RequestID")


def _decode_till(root: Element) -> Till:
    return Till(root.value("WorkstationID"), root.value("POPID"), root.at("POSdata").value("LanguageCode"))


def _decode_amount(element: Element | None) -> Money | None:
    return None if element is None else parse_amount(element.text, element.attributes.get("Currency", ""))


def _decode_card_request(root: Element) -> CardServiceRequest:
    return CardServiceRequest(
        *_named(root),
        till=_decode_till(root),
        timestamp=root.at("POSdata", "POSTimeStamp").text,
        amount=_decode_amount(root.child("TotalAmount")),
        original_stan=root.at("OriginalTransaction").value("STAN"),
    )


def _decode_card_response(root: Element) -> CardServiceResponse:
    private, said = root.at("PrivateData"), root.at("Tender").child("Authorisation")
    return CardServiceResponse(
        *_named(root),
        overall_result=root.value("OverallResult"),
        workstation_id=root.value("WorkstationID"),
        terminal_id=root.at("Terminal").value("TerminalID"),
        stan=root.at("Terminal").value("STAN"),
        original_stan=root.at("OriginalTransaction").value("STAN"),
        amount=_decode_amount(root.at("Tender").child("TotalAmount")),
        authorisation=None if said is None else _decode_authorisation(root, said),
        technology=clean_value(private.at("CardTechnologyType").text),
        verification=clean_value(
            private.at("CardVerificationMethod").text or private.at("CardHolderAuthentication").text
        ),
        error_code=clean_value(private.at("ErrorCode").text),
        error_text=clean_value(private.at("ErrorText").text),
    )


def _decode_authorisation(root: Element, said: Element) -> Authorisation:
    number = said.attributes.get("CardPAN", "") or root.at("CardValue", "CardPAN").text
    return Authorisation(
        authorisation_type=said.value("AuthorisationType"),
        card_circuit=said.value("CardCircuit"),
        pan_last4=last4_of(number),
        receipt_number=said.value("ReceiptNumber"),
        action_code=said.value("ActionCode"),
        approval_code=said.value("ApprovalCode"),
        timestamp=said.value("TimeStamp"),
    )


def _decode_service_response(root: Element) -> ServiceResponse:
    private = root.at("PrivateData")
    return ServiceResponse(
        *_named(root),
        overall_result=root.value("OverallResult"),
        workstation_id=root.value("WorkstationID"),
        terminal_id=root.at("Terminal").value("TerminalID"),
        stan=root.at("Terminal").value("STAN"),
        totals=_decode_totals(root.child("Reconciliation")),
        error_code=clean_value(private.at("ErrorCode").text),
        error_text=clean_value(private.at("ErrorText").text),
    )


def _decode_totals(reconciliation: Element | None) -> tuple[Total, ...] | None:
    if reconciliation is None:
        return None
    totals: list[Total] = []
    for element in reconciliation.all("TotalAmount"):
        amount, count = _decode_amount(element), element.attributes.get("NumberPayments", "")
        if amount is None or len(totals) >= TOTALS_MAX:
            return None
        known = count.isascii() and count.isdigit() and len(count) <= 6
        totals.append(
            Total(int(count) if known else None, amount, element.value("PaymentType"), element.value("CardCircuit"))
        )
    return tuple(totals)


def _decode_device_request(root: Element) -> DeviceRequest:
    asked = root.child("Input")
    return DeviceRequest(
        root.value("RequestType"),
        # The answer must repeat it as it is; it goes nowhere else.
        root.attributes.get("RequestID", "")[:TEXT_CHARS_MAX],
        workstation_id=root.value("WorkstationID"),
        sequence_id=root.value("SequenceID"),
        terminal_id=root.value("TerminalID"),
        outputs=tuple(
            Output(
                output.value("OutDeviceTarget"),
                tuple(clean_line(line.text) for line in output.all("TextLine")[:LINES_MAX]),
            )
            for output in root.all("Output")[:OUTPUTS_MAX]
        ),
        input_target="" if asked is None else asked.value("InDeviceTarget") or "unnamed",
    )


def _decode_device_response(root: Element) -> DeviceResponse:
    asked = root.child("Input")
    return DeviceResponse(
        *_named(root),
        overall_result=root.value("OverallResult"),
        till=Till(root.value("WorkstationID"), root.value("POPID")),
        outputs=tuple(
            OutputResult(one.value("OutDeviceTarget"), one.value("OutResult"))
            for one in root.all("Output")[:OUTPUTS_MAX]
        ),
        input=None if asked is None else OutputResult(asked.value("InDeviceTarget"), asked.value("InResult")),
    )


def sum_of(totals: tuple[Total, ...]) -> tuple[int | None, Money | None]:
    """Count and sum of a reconciliation: debits less credits; None for what cannot be added up."""
    counts = [total.count for total in totals]
    count = None if None in counts else sum(one for one in counts if one is not None)
    currencies = {total.amount.currency for total in totals}
    if len(currencies) != 1:
        return count, None
    minor = sum(
        -total.amount.amount_minor if total.payment_type.casefold() == "credit" else total.amount.amount_minor
        for total in totals
    )
    return count, Money(minor, currencies.pop()) if abs(minor) <= AMOUNT_MINOR_MAX else None
