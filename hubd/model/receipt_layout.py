"""How the receipts of one location look: its own words above and below, its logo, what is shown (domain D11).

A layout is plain values, no language of its own: it can say what stands there and never what is computed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from hubd.errors import InvalidValueError
from hubd.model.card_data import check_free_text
from hubd.model.printing import COLUMNS_MAX, COLUMNS_MIN, Logo

LOGO_WIDTH_MAX = 576
"""Dots: the whole width of 80 mm paper."""
LOGO_BYTES_MAX = 12 * 1024

TextLine = Annotated[str, Meta(max_length=96)]
TextLines = Annotated[tuple[TextLine, ...], Meta(max_length=8)]


class LogoPicture(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture in black and white. In JSON its rows are base64."""

    width: Annotated[int, Meta(ge=8, le=LOGO_WIDTH_MAX, multiple_of=8)]
    """Dots."""
    rows: Annotated[bytes, Meta(min_length=1, max_length=LOGO_BYTES_MAX)]
    """Eight dots a byte, the leftmost in the highest bit, black is 1; row after row."""


class ReceiptLayout(Struct, frozen=True, forbid_unknown_fields=True):
    """The ticket layout of a location; every field may be left out."""

    language: Literal["", "en", "fr", "nl"] = ""
    """Of the paper; empty: that of the till that asks."""
    columns: Annotated[int, Meta(ge=COLUMNS_MIN, le=COLUMNS_MAX)] = 42
    """Characters a line on the page and in PDF. A printer has its own width, which is an option of its driver."""
    header: TextLines = ()
    """Lines below the name of the location, in the middle: address, VAT number, telephone."""
    footer: TextLines = ()
    """Lines at the end, in the middle: opening hours, conditions of exchange."""
    logo: LogoPicture | None = None
    vat_table: bool = True
    """Whether the VAT of each rate is listed, where the receipt has an order."""
    card_details: bool = True
    """Whether the customer's copy shows the card's terminal, receipt and authorisation numbers; the merchant's does."""

    @property
    def picture(self) -> Logo | None:
        """The logo as something to print."""
        return Logo(self.logo.width, self.logo.rows) if self.logo else None


SHIPPED_LAYOUT = ReceiptLayout()


def parse_layout(value: Any) -> ReceiptLayout:
    """Read the value of a setting. Raises `invalid_receipt_layout`, and `card_data_refused` for a card number in it."""
    try:
        layout = msgspec.convert(value, ReceiptLayout)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc)) from exc
    if layout.logo is not None and len(layout.logo.rows) % (layout.logo.width // 8):
        raise _invalid("the last row of the logo is not complete")
    for name, lines in (("header", layout.header), ("footer", layout.footer)):
        for line in lines:
            check_free_text(line, name)
    return layout


def layout_value(value: Any) -> Any:
    """The value as it is kept: checked, plain JSON, with every field in it."""
    return msgspec.json.decode(msgspec.json.encode(parse_layout(value)))


def _invalid(why: str) -> InvalidValueError:
    return InvalidValueError(
        "invalid_receipt_layout", f"The receipt layout cannot be used: {why}.", remedy="Correct the field."
    )
