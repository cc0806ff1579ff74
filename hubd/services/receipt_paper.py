"""The receipt on paper: the data of `ReceiptDesk` as a document of lines, in the shop's language (domain 5.3, B13).

Everything that the law wants on a receipt is in the data; this only says it in words and in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubd.model.money import Money
from hubd.model.printing import Align, Cut, Item, PrintDocument, Row, Rule, Space, Text

PURPOSES = ("customer", "merchant")
_WORDS: Mapping[str, tuple[str, str, str]] = {
    "receipt": ("Receipt", "Ticket", "Bon"),
    "refund": ("Refund", "Remboursement", "Terugbetaling"),
    "merchant": ("Merchant copy", "Exemplaire commerçant", "Exemplaar winkelier"),
    "training": ("TRAINING - NOT A SALE", "ÉCOLE - SANS VALEUR", "OEFENING - GEEN VERKOOP"),
    "test": ("TEST - NOT A SALE", "TEST - SANS VALEUR", "TEST - GEEN VERKOOP"),
    "total": ("Total", "Total", "Totaal"),
    "tip": ("Tip", "Pourboire", "Fooi"),
    "rounding": ("Rounding", "Arrondi", "Afronding"),
    "net": ("Net", "HT", "Excl."),
    "tax": ("VAT", "TVA", "Btw"),
    "cash": ("Cash", "Espèces", "Contant"),
    "card": ("Card", "Carte", "Kaart"),
    "staff": ("Served by", "Servi par", "Bediend door"),
    "till": ("Till", "Caisse", "Kassa"),
    "reversed": ("REVERSED", "ANNULÉ", "TERUGGEDRAAID"),
    "declined": ("DECLINED", "REFUSÉ", "GEWEIGERD"),
    "cancelled": ("CANCELLED", "ABANDONNÉ", "AFGEBROKEN"),
    "clock": ("Time not confirmed", "Heure non confirmée", "Tijd niet bevestigd"),
    "seal": ("Seal", "Scellement", "Zegel"),
}
_LANGUAGES = ("en", "fr", "nl")
_NOT_PAID = frozenset({"declined", "cancelled", "reversed"})


class _Speaker:
    """Words and sums of one language."""

    def __init__(self, language: str) -> None:
        self.language = language[:2] if language[:2] in _LANGUAGES else "en"

    def word(self, name: str) -> str:
        return _WORDS[name][_LANGUAGES.index(self.language)]

    def money(self, value: Mapping[str, Any]) -> str:
        plain = Money(value["amount"], value["currency"]).plain().partition(" ")[0]
        return plain if self.language == "en" else plain.replace(".", ",")


def receipt_document(receipt: Mapping[str, Any], purpose: str, language: str) -> PrintDocument:
    """What is printed of a receipt; `purpose` is `customer` or `merchant`."""
    say = _Speaker(language)
    payment, number = receipt["payment"], receipt["number"]
    refund = receipt["kind"] == "refund"
    title = f"{say.word('refund' if refund else 'receipt')} {number or ''}".strip()
    items: list[Item] = [*_head(receipt, purpose, say), Text(title, bold=True)]
    items.append(Row(receipt["local_time"], f"{say.word('till')} {receipt['till']['name'] or '-'}"))
    if not receipt["clock_trusted"]:
        items.append(Text(say.word("clock")))
    items += [*_order(receipt["order"], say), Rule(), *_sums(payment, say), *_card(payment, say)]
    if payment["state"] in _NOT_PAID:
        items.append(Text(say.word(payment["state"]), Align.CENTER, bold=True, large=True))
    if receipt["offline_mark"]:
        items.append(Text(receipt["offline_mark"], Align.CENTER, bold=True))
    if receipt["terminal_lines"]:
        items += [Rule(), *(Text(line) for line in receipt["terminal_lines"])]
    fiscal = receipt["fiscal"]
    seal = f"{say.word('seal')} {fiscal['line'][:8]}-{fiscal['seq']}-{fiscal['hash'][:16]}"
    items += [Rule(), Text(seal), Space(2), Cut()]
    return PrintDocument(title, tuple(items), say.language)


def _head(receipt: Mapping[str, Any], purpose: str, say: _Speaker) -> list[Item]:
    items: list[Item] = [
        Text(name, Align.CENTER, bold=True, large=large)
        for name, large in ((receipt["store"], True), (receipt["location"]["name"], False))
        if name
    ]
    items += [Text(say.word(mode), Align.CENTER, bold=True) for mode in ("training", "test") if receipt[mode]]
    if purpose == "merchant":
        items.append(Text(say.word("merchant"), Align.CENTER))
    return [*items, Space()]


def _order(order: Mapping[str, Any] | None, say: _Speaker) -> list[Item]:
    if order is None:
        return []
    currency = order["total"]["currency"]
    items: list[Item] = [Rule()]
    for line in order["lines"]:
        quantity = line["quantity"] / 1000
        times = "" if line["quantity"] == 1000 else f"{quantity:g} x "
        items.append(Row(f"{times}{line['name']}", say.money({"amount": line["gross"], "currency": currency})))
    items.append(Row(say.word("total"), say.money(order["total"]), bold=True))
    items += [
        Row(f"{say.word('tax')} {part['rate']} %  {say.word('net')} {say.money(part['net'])}", say.money(part["tax"]))
        for part in order["taxes"]
    ]
    return items


def _sums(payment: Mapping[str, Any], say: _Speaker) -> list[Item]:
    tender = say.word("cash" if payment["tender"] == "cash" else "card")
    items: list[Item] = [Row(tender, say.money(payment["amount"]))]
    items += [Row(say.word(part), say.money(payment[part])) for part in ("tip", "rounding") if payment[part]["amount"]]
    currency = payment["total"]["currency"]
    return [*items, Row(f"{say.word('total')} {currency}", say.money(payment["total"]), bold=True, large=True)]


def _card(payment: Mapping[str, Any], say: _Speaker) -> list[Item]:
    card = payment["card"]
    if not card:
        return []
    items: list[Item] = [Text(f"{card.get('card_name', say.word('card'))} ****{card.get('pan_last4', '')}")]
    items += [
        Text(f"{label} {card[key]}")
        for label, key in (("TID", "terminal_id"), ("No", "receipt_number"), ("Auth", "authorization_code"))
        if card.get(key)
    ]
    return items
