"""The page's words: gettext catalogues (.po), read as they stand, so that no compiled copy can be stale.

The English sentence is the key; a sentence without a translation is found by a test, never by a reader.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from msgspec import Struct

LANGUAGES = ("en", "fr", "nl")
NAMES = {"en": "English", "fr": "Français", "nl": "Nederlands"}
LOCALE_DIRECTORY = Path(__file__).parent / "locale"


class Catalogue(Struct, frozen=True):
    """The sentences of one language. English is its own catalogue and holds nothing."""

    language: str
    one: Mapping[str, str]
    many: Mapping[tuple[str, str], tuple[str, str]]

    def gettext(self, text: str) -> str:
        """The sentence in this language."""
        return self.one.get(text, text)

    def ngettext(self, singular: str, plural: str, count: int) -> str:
        """The sentence for this count. In French nothing is singular too."""
        forms = self.many.get((singular, plural), (singular, plural))
        is_plural = count > 1 if self.language == "fr" else count != 1
        return forms[1 if is_plural else 0]


def parse_po(text: str) -> tuple[dict[str, str], dict[tuple[str, str], tuple[str, str]]]:
    """Read a catalogue: `msgid`, `msgid_plural`, `msgstr`, continued strings, comments; two plural forms."""
    one: dict[str, str] = {}
    many: dict[tuple[str, str], tuple[str, str]] = {}
    for block in _blocks(text):
        singular = block.get("msgid", "")
        if not singular:
            continue
        if "msgid_plural" in block:
            many[singular, block["msgid_plural"]] = (block["msgstr[0]"], block["msgstr[1]"])
        else:
            one[singular] = block["msgstr"]
    return one, many


def _blocks(text: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = [{}]
    key = ""
    for line in text.splitlines():
        line = line.strip()
        if not line:
            found.append({})
        elif line.startswith('"'):
            found[-1][key] += ast.literal_eval(line)
        elif not line.startswith("#"):
            key, _, value = line.partition(" ")
            found[-1][key] = ast.literal_eval(value)
    return found


@cache
def catalogue(language: str) -> Catalogue:
    """The catalogue of a language; English for one that the page does not speak."""
    if language == "en" or language not in LANGUAGES:
        return Catalogue("en", {}, {})
    one, many = parse_po((LOCALE_DIRECTORY / f"{language}.po").read_text("utf-8"))
    return Catalogue(language, one, many)


def load_all() -> None:
    """Read every catalogue now, before the loop runs."""
    for language in LANGUAGES:
        catalogue(language)
