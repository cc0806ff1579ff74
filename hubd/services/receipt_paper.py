"""The receipt on paper: the data of `ReceiptDesk` as a document of lines, in the shop's language (domain 5.3, B13).

Everything that the law wants on a receipt is in the data; this only says it in words and in order, with what the layout
of the location adds (domain D11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from hubd.model.money import Money
from hubd.model.printing import Align, Cut, Item, PrintDocument, Row, Rule, Space, Text
from hubd.model.receipt_layout import SHIPPED_LAYOUT, ReceiptLayout

CUSTOMER, MERCHANT = PURPOSES = ("customer", "merchant")
COPY = {"en": "COPY", "fr": "DUPLICATA", "nl": "KOPIE"}
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
    "deadline": ("To reach the bank before", "À transmettre à la banque avant", "Bij de bank vóór"),
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


def marked(document: PrintDocument, papers: int) -> PrintDocument:
    """The document as its `papers`-th paper; from the second on it says so at its head."""
    if papers <= 1:
        return document
    word = COPY.get(document.language[:2], COPY["en"])
    return replace(document, items=(Text(word, Align.CENTER, bold=True, large=True), Rule(), *document.items))


def receipt_document(
    receipt: Mapping[str, Any], purpose: str, layout: ReceiptLayout = SHIPPED_LAYOUT, language: str = "en"
) -> PrintDocument:
    """What is printed of a receipt; `purpose` is one of PURPOSES, `language` counts where the layout names none."""
    say = _Speaker(layout.language or language)
    payment, number = receipt["payment"], receipt["number"]
    refund = receipt["kind"] == "refund"
    title = f"{say.word('refund' if refund else 'receipt')} {number or ''}".strip()
    items: list[Item] = [*_head(receipt, purpose, layout, say), Text(title, bold=True)]
    items.append(Row(receipt["local_time"], f"{say.word('till')} {receipt['till']['name'] or '-'}"))
    if not receipt["clock_trusted"]:
        items.append(Text(say.word("clock")))
    items += [*_order(receipt["order"], layout, say), Rule(), *_sums(payment, say)]
    items += _card(payment, say, numbers=layout.card_details or purpose == MERCHANT)
    if payment["state"] in _NOT_PAID:
        items.append(Text(say.word(payment["state"]), Align.CENTER, bold=True, large=True))
    if receipt["offline_mark"]:
        items.append(Text(receipt["offline_mark"], Align.CENTER, bold=True))
        if purpose == MERCHANT and receipt["offline_deadline"]:
            items.append(Text(f"{say.word('deadline')} {receipt['offline_deadline']}", Align.CENTER))
    if receipt["terminal_lines"]:
        items += [Rule(), *(Text(line) for line in receipt["terminal_lines"])]
    fiscal = receipt["fiscal"]
    seal = f"{say.word('seal')} {fiscal['line'][:8]}-{fiscal['seq']}-{fiscal['hash'][:16]}"
    items += [Rule(), Text(seal)]
    items += [Text(line, Align.CENTER) for line in layout.footer]
    items += [Space(2), Cut()]
    return PrintDocument(title, tuple(items), say.language)


def _head(receipt: Mapping[str, Any], purpose: str, layout: ReceiptLayout, say: _Speaker) -> list[Item]:
    items: list[Item] = [layout.picture] if layout.picture else []
    items += [
        Text(name, Align.CENTER, bold=True, large=large)
        for name, large in ((receipt["store"], True), (receipt["location"]["name"], False))
        if name
    ]
    items += [Text(line, Align.CENTER) for line in layout.header]
    items += [Text(say.word(mode), Align.CENTER, bold=True) for mode in ("training", "test") if receipt[mode]]
    if purpose == MERCHANT:
        items.append(Text(say.word("merchant"), Align.CENTER))
    return [*items, Space()]


def _order(order: Mapping[str, Any] | None, layout: ReceiptLayout, say: _Speaker) -> list[Item]:
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
        for part in (order["taxes"] if layout.vat_table else ())
    ]
    return items


def _sums(payment: Mapping[str, Any], say: _Speaker) -> list[Item]:
    tender = say.word("cash" if payment["tender"] == "cash" else "card")
    items: list[Item] = [Row(tender, say.money(payment["amount"]))]
    items += [Row(say.word(part), say.money(payment[part])) for part in ("tip", "rounding") if payment[part]["amount"]]
    currency = payment["total"]["currency"]
    return [*items, Row(f"{say.word('total')} {currency}", say.money(payment["total"]), bold=True, large=True)]


def _card(payment: Mapping[str, Any], say: _Speaker, *, numbers: bool) -> list[Item]:
    card = payment["card"]
    if not card:
        return []
    items: list[Item] = [Text(f"{card.get('card_name', say.word('card'))} ****{card.get('pan_last4', '')}")]
    items += [
        Text(f"{label} {card[key]}")
        for label, key in (("TID", "terminal_id"), ("No", "receipt_number"), ("Auth", "authorization_code"))
        if numbers and card.get(key)
    ]
    return items
