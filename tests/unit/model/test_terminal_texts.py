"""Texts that a terminal shows or prints, and the steps that follow (domain D07, D15)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.model.problem import LANGUAGES
from hubd.model.runbooks import DEFAULT_PASSWORD, is_android, page, steps_of
from hubd.model.terminal_life import Needs, needs_of


@pytest.mark.parametrize(
    "text",
    [
        "La session de paramètres acquirer a échoué",
        "La session de paramètres acquirer n'existe pas",
        "La session de paramètres acquirer a expiré",
        "LA SESSION DE PARAMETRES ACQUIRER N’EXISTE PAS.",
        "Acquirer parameter session failed",
        "De acquirer-parametersessie is verlopen",
        "Acquirer-Parametersitzung abgelaufen",
    ],
)
def test_each_text_of_a_parameter_session_is_one_diagnosis(text: str) -> None:
    assert needs_of([text]) is Needs.PARAMETER_SESSION
    assert needs_of(["CCV", "", *text.split(" ", 2), "01/12/2026"]) is Needs.PARAMETER_SESSION, "broken over lines"


@pytest.mark.parametrize(
    "text", ["Configuration échouée", "CONFIGURATION ECHOUEE", "Configuratie mislukt", "Konfiguration fehlgeschlagen"]
)
def test_a_failed_configuration_needs_the_tms(text: str) -> None:
    assert needs_of([text]) is Needs.TMS_CONTACT


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["session"],
        ["Article: configuration échouée du monde"],
        ["Configuration", "réussie"],
        ["La", "session", "de", "paramètres", "acquirer a échoué"],
    ],
)
def test_what_only_looks_like_it_means_nothing(lines: list[str]) -> None:
    assert needs_of(lines) is Needs.NOTHING


@pytest.mark.parametrize("language", LANGUAGES)
def test_android_models_begin_in_the_app_service(language: str) -> None:
    needs = Needs.PARAMETER_SESSION
    android, other = steps_of(needs, "PAX A920", language), steps_of(needs, "VX 820", language)
    assert "Service" in android[0]
    assert "Menu" in other[0]
    assert android[1:] == other[1:]
    assert any(DEFAULT_PASSWORD in step for step in android)
    assert steps_of(Needs.NOTHING, "PAX A920", language) == ()


def test_the_page_of_the_manual_says_the_same() -> None:
    manual = Path(__file__).parents[3] / "docs/operating/terminal-runbooks.md"
    assert manual.read_text("utf-8") == page(), "python -m hubd.model.runbooks > docs/operating/terminal-runbooks.md"


def test_which_models_are_android() -> None:
    assert all(is_android(model) for model in ("A920", "pax a35", "A80-A35", "A77"))
    assert not any(is_android(model) for model in ("", "P400", "VX 820", "A9200", "iCT250"))
