"""The receipt of an offline payment: it says that the bank has not answered, and the merchant's says until when."""

from __future__ import annotations

import pytest

from hubd.model.printing import PrintDocument, Row, Text
from hubd.model.receipt_layout import parse_layout
from hubd.services.receipt_paper import marked, receipt_document
from tests.unit.paper.receipts import offline_receipt

WORDS = {
    "en": ("offline payment, waiting for the bank", "To reach the bank before", "Merchant copy", "COPY"),
    "fr": ("paiement hors ligne — en attente", "À transmettre à la banque avant", "Exemplaire commerçant", "DUPLICATA"),
    "nl": ("offline betaling, wacht op de bank", "Bij de bank vóór", "Exemplaar winkelier", "KOPIE"),
}


def texts(document: PrintDocument) -> list[str]:
    return [item.text for item in document.items if isinstance(item, Text)]


@pytest.mark.parametrize("language", ["en", "fr", "nl"])
def test_it_says_in_the_shops_language_that_it_waits(language: str) -> None:
    pending, before, copy_of, again = WORDS[language]
    data, layout = offline_receipt(language), parse_layout({"language": language})
    merchant = texts(receipt_document(data, "merchant", layout, "en"))
    customer = texts(receipt_document(data, "customer", layout, "en"))
    deadline = f"{before} 2026-12-01 12:00:00"
    assert {pending, deadline, copy_of} <= set(merchant)
    assert pending in customer
    assert not {deadline, copy_of} & set(customer)
    assert texts(marked(receipt_document(data, "merchant", layout), 2))[0] == again
    online = receipt_document(data | {"offline_mark": None, "offline_deadline": None}, "merchant", layout)
    assert not {pending, deadline} & set(texts(online))


def test_a_layout_says_what_is_shown() -> None:
    data = offline_receipt("fr")
    narrow = parse_layout({"vat_table": False, "card_details": False, "header": ["RCS Lyon"], "footer": ["Merci"]})

    def shown(purpose: str, **layout: object) -> set[str]:
        document = receipt_document(data, purpose, parse_layout(layout) if layout else narrow, "fr")
        return {*texts(document), *(item.left for item in document.items if isinstance(item, Row))}

    assert {"TVA 10 %  HT 6,55", "TID 52500038"} <= shown("customer", language="fr")
    assert not {"TVA 10 %  HT 6,55", "TID 52500038"} & shown("customer")
    assert "TID 52500038" in shown("merchant"), "the merchant needs it to find the payment again"
    assert {"RCS Lyon", "Merci"} <= shown("customer")
