"""Requests and answers about paper, scales and scanners."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hubd.errors import InvalidValueError
from hubd.model.card_data import check_free_text
from hubd.model.printing import Align
from local_api.schemas import Accepted, Answer, IdText, PageQuery, Request, ShortText, Time

PrintText = Annotated[str, msgspec.Meta(max_length=500)]


class TextIn(Request, frozen=True, tag="text"):
    """One paragraph; broken at words where it is too long for the paper."""

    text: PrintText
    align: Align = Align.LEFT
    bold: bool = False
    large: bool = False

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.text, "items.text")


class RowIn(Request, frozen=True, tag="row"):
    """Words at the left, a figure at the right."""

    left: PrintText
    right: Annotated[str, msgspec.Meta(max_length=40)]
    bold: bool = False
    large: bool = False

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.left, "items.left")
        check_free_text(self.right, "items.right")


class DisplayIn(Request, frozen=True):
    """What a line display shows; no rows clear it."""

    rows: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=20)], ...], msgspec.Meta(max_length=2)] = ()

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(" ".join(self.rows), "rows")


class RuleIn(Request, frozen=True, tag="rule"):
    """A line across the paper."""


class SpaceIn(Request, frozen=True, tag="space"):
    """Empty lines."""

    lines: Annotated[int, msgspec.Meta(ge=1, le=20)] = 1


class QrIn(Request, frozen=True, tag="qr"):
    """A QR code."""

    data: Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern="^[ -~]*$")]

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.data, "items.data")


class BarcodeIn(Request, frozen=True, tag="barcode"):
    """A one-dimensional code: thirteen digits for `ean13`, up to 40 characters for `code128`."""

    data: Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern="^[ -~]*$")]
    symbology: Annotated[str, msgspec.Meta(pattern="^(ean13|code128)$")] = "code128"

    def __post_init__(self) -> None:
        """Refuse card data, and an EAN that is none."""
        check_free_text(self.data, "items.data")
        if self.symbology == "ean13" and not (len(self.data) == 13 and self.data.isdigit()):
            raise InvalidValueError("invalid_barcode", "An EAN-13 has thirteen digits.", remedy="Use code128.")


class CutIn(Request, frozen=True, tag="cut"):
    """Cut the paper."""


ItemIn = TextIn | RowIn | RuleIn | SpaceIn | QrIn | BarcodeIn | CutIn


class PaperIn(Request, frozen=True):
    """What a till wants on paper in its own words."""

    title: ShortText
    items: Annotated[list[ItemIn], msgspec.Meta(min_length=1, max_length=500)]

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.title, "document.title")


class ReceiptIn(Request, frozen=True):
    """The receipt of a payment, as the hub puts it together."""

    payment: IdText
    purpose: Annotated[str, msgspec.Meta(pattern="^(customer|merchant)$")] = "customer"


class PrintJobIn(Request, frozen=True):
    """One paper: a receipt or a document, not both."""

    receipt: ReceiptIn | None = None
    document: PaperIn | None = None
    printer: Annotated[str, msgspec.Meta(pattern="^$|^[0-9a-f-]{36}$")] = ""
    """Device id; absent: the printer of the till, else one of its location."""

    def __post_init__(self) -> None:
        """Refuse none and both."""
        if (self.receipt is None) == (self.document is None):
            raise InvalidValueError(
                "malformed_request", "A print job is a receipt or a document.", remedy="Send one of the two."
            )


class PrintAgainIn(Request, frozen=True):
    """Print a job once more."""

    printer: Annotated[str, msgspec.Meta(pattern="^$|^[0-9a-f-]{36}$")] = ""
    """Another printer; absent: the same."""


class PrintJobOut(Answer, frozen=True):
    """A print job. `state` is waiting, printing, printed, unknown (it may be out) or cancelled."""

    id: str
    accepted: Accepted
    seq: int
    state: str
    title: str
    printer: str
    payment: str | None
    papers: int
    """How often it is, or may be, on paper."""
    reason: str | None
    requested_at: Time
    updated_at: Time


class PrintJobPage(Answer, frozen=True):
    """One page, newest first; `next` for `before`."""

    items: list[PrintJobOut]
    next: str


class PrintJobQuery(PageQuery, frozen=True):
    """A page of print jobs."""


class WeightOut(Answer, frozen=True):
    """A weight that the scale called stable, or the reason why there is none."""

    grams: int | None
    net: bool
    reason: str | None
    remedy: str | None
