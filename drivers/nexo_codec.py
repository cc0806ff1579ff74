"""nexo Retailer 3.0 in JSON as Adyen terminals speak it: headers, the encrypted envelope, and text. Pure.

A message is JSON with one member, `SaleToPOIRequest` or `SaleToPOIResponse`. On the wire its header stands in clear
beside the encrypted whole; both headers must be equal, because only the inner one is protected.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct, field

from drivers.nexo_crypto import NexoCryptoError, NexoKey, NexoKeyError, Sealed, seal, unseal
from drivers.trace import plain, size
from hubd.errors import InvalidValueError
from hubd.model.card_data import holds_card_data, luhn_valid
from hubd.model.money import AMOUNT_MINOR_MAX, Money

PROTOCOL_VERSION = "3.0"
SERVICE_ID_CHARACTERS = 10
_BASE36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TEXT_CHARACTERS_MAX = 200
RECEIPT_LINES_MAX = 1000
ADDITIONAL_PAIRS_MAX = 500
DECIMAL_DIGITS_MAX = 18
REQUEST: Final = "SaleToPOIRequest"
RESPONSE: Final = "SaleToPOIResponse"
Kind = Literal["SaleToPOIRequest", "SaleToPOIResponse"]


class NexoMessageError(ValueError):
    """A message that cannot be used. `reason` is a stable word and holds nothing of what came."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Header(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """MessageHeader: who asks whom for what, and under which number."""

    protocol_version: str = field(name="ProtocolVersion", default="")
    message_class: str = field(name="MessageClass", default="")
    category: str = field(name="MessageCategory", default="")
    message_type: str = field(name="MessageType", default="")
    service_id: str = field(name="ServiceID", default="")
    """1 to 10 letters and digits, unique per terminal for 48 hours."""
    device_id: str = field(name="DeviceID", default="")
    sale_id: str = field(name="SaleID", default="")
    poiid: str = field(name="POIID", default="")
    """The terminal: its model, a hyphen, its serial number."""


def request_header(category: str, service_id: str, sale_id: str, poiid: str) -> Header:
    """The header of a request to the terminal."""
    return Header(
        protocol_version=PROTOCOL_VERSION,
        message_class="Service",
        category=category,
        message_type="Request",
        service_id=service_id,
        sale_id=sale_id,
        poiid=poiid,
    )


def answers(header: Header, asked: Header) -> bool:
    """Whether a header is that of the response to this request."""
    return header == msgspec.structs.replace(asked, message_type="Response")


def service_id_of(category: str, reference: str, attempt: int = 0) -> str:
    """The ServiceID of a message that moves money: the same for the same payment, also after a restart.

    Ten characters of base 36 from a hash, so that a later enquiry can name the message without having noted anything.
    """
    digest = hashlib.sha256(f"{category}\n{reference}\n{attempt}".encode()).digest()
    return service_id_from(digest)


def service_id_from(entropy: bytes) -> str:
    """A ServiceID made of these bytes, at least eight of them."""
    number = int.from_bytes(entropy, "big")
    characters = []
    for _ in range(SERVICE_ID_CHARACTERS):
        number, digit = divmod(number, len(_BASE36))
        characters.append(_BASE36[digit])
    return "".join(characters)


# -- the envelope ------------------------------------------------------------------------------------------------------


class _Trailer(Struct):
    crypto_version: int = field(name="AdyenCryptoVersion")
    key_identifier: str = field(name="KeyIdentifier")
    key_version: int = field(name="KeyVersion")
    nonce: str = field(name="Nonce")
    hmac: str = field(name="Hmac")


class _Secured(Struct):
    header: Header = field(name="MessageHeader")
    blob: str = field(name="NexoBlob")
    trailer: _Trailer = field(name="SecurityTrailer")


class _Inner(Struct):
    header: Header = field(name="MessageHeader")


def encode_message(kind: Kind, header: Header, body: Mapping[str, object], key: NexoKey, nonce: bytes) -> bytes:
    """A message as it goes out. `body` is what stands beside the header, such as `{"PaymentRequest": …}`."""
    plaintext = msgspec.json.encode({kind: {"MessageHeader": header, **body}})
    sealed = seal(plaintext, key, nonce)
    trailer = _Trailer(sealed.crypto_version, sealed.key_identifier, sealed.key_version, sealed.nonce, sealed.hmac)
    return msgspec.json.encode({kind: _Secured(header, sealed.blob, trailer)})


def decode_message(kind: Kind, data: bytes, key: NexoKey) -> tuple[Header, Raw]:
    """Header and content of a message that came in; the content is still JSON, with the header in it.

    Raises `NexoMessageError`: `malformed`, `other_key`, `not_authentic`, `header_mismatch`.
    """
    try:
        secured = msgspec.json.decode(data, type=dict[str, _Secured]).get(kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NexoMessageError("malformed") from None
    if secured is None:
        raise NexoMessageError("malformed")
    trailer = secured.trailer
    sealed = Sealed(
        secured.blob, trailer.hmac, trailer.nonce, trailer.key_identifier, trailer.key_version, trailer.crypto_version
    )
    try:
        plaintext = unseal(sealed, key)
    except NexoKeyError:
        raise NexoMessageError("other_key") from None
    except NexoCryptoError:
        raise NexoMessageError("not_authentic") from None
    try:
        content = msgspec.json.decode(plaintext, type=dict[str, Raw]).get(kind)
        inner = msgspec.json.decode(content or b"", type=_Inner)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NexoMessageError("malformed") from None
    if content is None or inner.header != secured.header:
        raise NexoMessageError("header_mismatch")
    return inner.header, content


# -- amounts, times and text -------------------------------------------------------------------------------------------


def amount_literal(amount: Money) -> Raw:
    """An amount as JSON writes numbers, in units of the currency: 2040 cents are `20.40`."""
    return Raw(amount.plain().partition(" ")[0].encode("ascii"))


def money_of(amount: Decimal | None, currency: str) -> Money | None:
    """What a terminal names as an amount; None for what is no whole number of the currency's smallest unit."""
    if amount is None or not currency or not amount.is_finite() or len(amount.as_tuple().digits) > DECIMAL_DIGITS_MAX:
        return None
    if amount and not -DECIMAL_DIGITS_MAX < amount.adjusted() < DECIMAL_DIGITS_MAX:
        return None
    try:
        scaled = amount.scaleb(Money(0, currency).exponent)
        if scaled != scaled.to_integral_value() or abs(scaled) > AMOUNT_MINOR_MAX:
            return None
        return Money(int(scaled), currency)
    except InvalidValueError:  # a currency that nobody knows
        return None


def additional_pairs(text: str) -> dict[str, str]:
    """AdditionalResponse: form-encoded pairs, or the same as base64 of JSON; empty for anything else.

    Holds all that the terminal says, card data too: the caller takes the few names that it knows and drops this.
    """
    compact = "".join(text.split())
    if "=" not in compact.rstrip("=") and compact:
        try:
            decoded = msgspec.json.decode(base64.b64decode(compact, validate=True), type=dict[str, object])
        except (binascii.Error, msgspec.DecodeError, RecursionError, ValueError):
            return {}
        nested = decoded.get("additionalData")
        flat = {**decoded, **nested} if isinstance(nested, dict) else decoded
        return {str(name): value for name, value in flat.items() if isinstance(value, str)}
    try:
        return dict(parse_qsl(text, max_num_fields=ADDITIONAL_PAIRS_MAX))
    except ValueError:
        return {}


_LONG_NUMBER = re.compile(r"(?<!\d)\d(?:[ .\-/*]?\d){12,18}(?!\d)")


def scrub(text: str) -> str:
    """A line that a terminal wants shown, without control characters and with at most four digits of a card number."""
    shown = "".join(one if one.isprintable() else " " for one in text)
    masked = _LONG_NUMBER.sub(_mask, shown).strip()  # first: half a number is not known for one
    return "****" if holds_card_data(masked) else masked[:TEXT_CHARACTERS_MAX]


def _mask(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match[0])
    return f"**** {digits[-4:]}" if luhn_valid(digits) else match[0]


def name_only(text: str) -> str:
    """An identifier as the terminal gave it; empty when it cannot be one, or holds a card number."""
    usable = len(text) <= TEXT_CHARACTERS_MAX and text.isascii() and text.isprintable()
    return text if usable and not holds_card_data(text) and _LONG_NUMBER.sub(_mask, text) == text else ""


def receipt_line(text: str) -> str:
    """A line of a receipt: Adyen writes `name=…&value=…&key=…`, form-encoded; other terminals write it as it is."""
    pairs = additional_pairs(text) if "key=" in text else {}
    if pairs:
        return scrub(" ".join(part for part in (pairs.get("name", ""), pairs.get("value", "")) if part))
    return scrub(text)


# -- traces ------------------------------------------------------------------------------------------------------------


class _Outside(Struct):
    header: Header = field(name="MessageHeader", default_factory=Header)
    blob: str = field(name="NexoBlob", default="")


def describe_message(what: str, body: bytes) -> str:
    """What a trace may tell of a message: its header, which stands in clear, and how long the sealed part is."""
    try:
        outside = msgspec.json.decode(body, type=dict[str, _Outside])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return f"{plain(what)} ({size(body)} hidden)"
    told = [plain(what)]
    for kind, message in outside.items():
        header = message.header
        names = (header.message_class, header.category, header.message_type, header.service_id, header.poiid)
        told += [plain(kind), *(plain(name) for name in names if name), f"({size(message.blob)} sealed)"]
    return " ".join(told)
