"""The test code of scanners that type: what it holds, and the paper on which it is."""

from __future__ import annotations

from hubd.model import code128
from hubd.model.printing import Align, Cut, PrintDocument, Qr, Space, Text

TEST_CODE = "HUBD-TEST/0123456789.AQWZYM+$%:;]-HUBD"
"""Its keys tell the layouts of our countries apart (`drivers.keyboard_scanner_codec.learn`)."""
BAR_DOTS, MODULE_DOTS = 96, 3
"""On paper: 12 mm across and 0.37 mm a module, which every scanner reads."""
_TITLE = {"en": "Test code of scanners", "fr": "Code de test des lecteurs", "nl": "Testcode voor scanners"}
_SAID = {
    "en": "Let the scanner read this code once.",
    "fr": "Faites lire ce code une fois par le lecteur.",
    "nl": "Laat de scanner deze code één keer lezen.",
}


def sheet(language: str) -> PrintDocument:
    """The code as QR, and as Code 128 down the paper for scanners that read bars only."""
    known = language if language in _TITLE else "en"
    bars = code128.ladder(code128.widths(TEST_CODE), BAR_DOTS, MODULE_DOTS)
    items = (Text(_SAID[known], Align.CENTER), Space(), Qr(TEST_CODE), Space(2), bars, Space(2), Cut())
    return PrintDocument(_TITLE[known], items, known)
