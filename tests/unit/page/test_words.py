"""Every sentence of the page is there in every language, with the same places to fill, and none is left over."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from drivers.registry import load
from hubd.model.device_options import OptionKind
from local_api.page.device_options import told
from local_api.page.words import LANGUAGES, LOCALE_DIRECTORY, catalogue, parse_po

PAGE = LOCALE_DIRECTORY.parent
TRANSLATED = [language for language in LANGUAGES if language != "en"]
PLACE = re.compile(r"%\(\w+\)s")
JINJA = {"newstyle_gettext": "true", "trim_blocks": "true", "lstrip_blocks": "true"}

Message = str | tuple[str, str]


def _messages(path: Path) -> Iterator[Message]:
    jinja = path.suffix == ".html"
    method = "jinja2.ext:babel_extract" if jinja else "python"
    keywords = {"_": None, "ngettext": (1, 2)} if jinja else {"words": None}
    for _, message, _, _ in extract(method, io.BytesIO(path.read_bytes()), keywords, options=JINJA if jinja else {}):
        yield (message[0], message[1]) if isinstance(message, tuple) else message


@cache
def messages() -> frozenset[Message]:
    paths = [*PAGE.glob("*.py"), *(PAGE / "templates").glob("*.html")]
    return frozenset(message for path in paths for message in _messages(path))


def test_extraction_finds_sentences_of_both_kinds() -> None:
    assert "Keep selling." in messages(), "a sentence of a template"
    assert "Name or PIN is wrong." in messages(), "a sentence of a view"
    assert ("Today: %(num)s sale", "Today: %(num)s sales") in messages()


@pytest.mark.parametrize("language", TRANSLATED)
def test_no_sentence_is_untranslated_and_none_is_left_over(language: str) -> None:
    known = catalogue(language)
    keys: set[Message] = {*known.one, *known.many}
    assert sorted(map(str, messages() - keys)) == [], "translate these"
    assert sorted(map(str, keys - messages())) == [], "nobody says these any more"


@pytest.mark.parametrize("language", TRANSLATED)
def test_translation_fills_the_same_places(language: str) -> None:
    known = catalogue(language)
    for english, text in known.one.items():
        assert text.strip(), english
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(english)), english
    for english_forms, forms in known.many.items():
        for english, text in zip(english_forms, forms, strict=True):
            assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(english)), english


@pytest.mark.parametrize("language", TRANSLATED)
def test_another_reader_of_catalogues_reads_the_same(language: str) -> None:
    raw = (LOCALE_DIRECTORY / f"{language}.po").read_bytes()
    ours = parse_po(raw.decode("utf-8"))
    theirs = read_po(io.BytesIO(raw), locale=language, abort_invalid=True)
    found_one = {m.id: m.string for m in theirs if m.id and isinstance(m.id, str)}
    found_many = {tuple(m.id): tuple(m.string or ()) for m in theirs if m.id and not isinstance(m.id, str)}
    assert (found_one, found_many) == ours
    assert not any(message.fuzzy for message in theirs if message.id)


def test_catalogue_with_continued_lines_and_quotes_is_read() -> None:
    text = '# note\nmsgid ""\nmsgstr ""\n"Language: fr\\n"\n\nmsgid "a "\n"\\"b\\""\nmsgstr "c"\n'
    assert parse_po(text) == ({'a "b"': "c"}, {})


def test_nothing_is_singular_in_french_only() -> None:
    forms = ("%(num)s card payment", "%(num)s card payments")
    assert catalogue("fr").ngettext(*forms, 0) == "%(num)s paiement par carte"
    assert catalogue("nl").ngettext(*forms, 0) == "%(num)s kaartbetalingen"
    assert catalogue("en").ngettext(*forms, 1) == "%(num)s card payment"
    assert catalogue("xx").gettext("Cash") == "Cash"


def test_every_option_of_a_built_in_driver_is_told_in_the_readers_language() -> None:
    manifests = [entry.manifest for entry in load().entries if entry.manifest]
    named = {option.name for one in manifests for option in one.options if option.kind is not OptionKind.LEARNT}
    assert "columns" in named
    assert sorted(name for name in named if told(str, name) is None) == []
