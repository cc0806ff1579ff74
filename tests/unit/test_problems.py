"""The catalogue of problems is complete in three languages, and the registry shows what matters first."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from hubd.health import Problems
from hubd.model.money import Money
from hubd.model.problem import LANGUAGES, ProblemKind, Text, shown
from hubd.model.problems import CATALOGUE, reference
from tests.unit.clocks import SteppedClock

ROOT = Path(__file__).resolve().parents[2]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=lambda kind: kind.code)
def test_every_text_says_the_same_in_every_language(kind: ProblemKind) -> None:
    texts = [text for text in (kind.title, kind.remedy, kind.money_title) if text is not None]
    for text in texts:
        spoken = [text.of(language) for language in LANGUAGES]
        assert all(spoken), "a language is silent"
        assert len(set(spoken)) == len(LANGUAGES), "a text was left untranslated"
        assert fields(text.en) == fields(text.fr) == fields(text.nl)
    assert all(code in CATALOGUE for code in kind.depends_on)
    if kind.money_title is not None:
        assert "money" in fields(kind.money_title.en)
        assert fields(kind.title.en) <= fields(kind.money_title.en)
    assert fields(kind.remedy.en) <= fields(kind.title.en), "a remedy may not need more than the title has"


def test_manual_lists_the_catalogue_as_it_is() -> None:
    manual = (ROOT / "docs/operating/problems.md").read_text("utf-8")
    assert manual == reference(), "run: python -m hubd.model.problems > docs/operating/problems.md"


def test_every_code_raised_in_the_hub_is_in_the_catalogue() -> None:
    call = re.compile(r"""(?:problems|_problems)\.(?:raise_|clear)\(\s*"([a-z_.]+)\"""")
    choice = re.compile(r"""(?:problems|_problems)\.set\(\s*[^"()]*(?:\([^()]*\)[^"()]*)*,\s*"([a-z_.]+)\"""")
    found = {
        code
        for package in ("hubd", "sync", "local_api", "drivers")
        for path in (ROOT / package).rglob("*.py")
        for pattern in (call, choice)
        for code in pattern.findall(path.read_text("utf-8"))
    }
    assert sorted(found - set(CATALOGUE)) == []
    assert call.findall('self._problems.raise_("no.such")') == ["no.such"]
    assert choice.findall('problems.set(len(found) > 0, "no.such")') == ["no.such"]


def test_unknown_language_reads_english() -> None:
    assert Text("one", "un", "een").of("de-AT") == "one"
    assert Text("one", "un", "een").of("fr-BE") == "un"


def test_what_holds_money_ranks_first_and_is_titled_by_it() -> None:
    problems = Problems(SteppedClock())
    problems.raise_("store.damaged", seq=7)
    problems.raise_("device.gone", "t2", money=[Money(53_420, "EUR")], name="Terminal 2")
    problems.raise_("device.gone", "p1", name="Printer")
    clock_after = problems._clock
    assert isinstance(clock_after, SteppedClock)
    clock_after.advance(10)
    assert [(one.code, one.subject) for one in problems.visible()] == [
        ("device.gone", "t2"),
        ("store.damaged", ""),
        ("device.gone", "p1"),
    ]
    assert problems.visible()[0].title("en") == "534.20 EUR in Terminal 2, which is unplugged or off"
    assert problems.visible()[2].title("fr") == "Printer est débranché ou éteint"


def test_short_problem_is_never_shown() -> None:
    clock = SteppedClock()
    problems = Problems(clock)
    problems.raise_("cloud.unreachable")
    clock.advance(59)
    assert problems.visible() == []
    clock.advance(1)
    assert [one.code for one in problems.visible()] == ["cloud.unreachable"]
    problems.clear("cloud.unreachable")
    assert problems.visible() == []


def test_explained_problem_is_hidden_unless_it_holds_money() -> None:
    clock = SteppedClock()
    problems = Problems(clock)
    problems.raise_("sync.waiting", count=12)
    problems.raise_("network.outage")
    clock.advance(1_000)
    assert [one.code for one in problems.visible()] == ["network.outage"]
    problems.raise_("sync.waiting", count=12, money=[Money(1, "EUR")])
    assert [one.code for one in problems.visible()] == ["sync.waiting", "network.outage"]
    assert [one.code for one in shown(problems.present(), 10**9)] == ["sync.waiting", "network.outage"]


def test_raising_again_keeps_since_and_tells_only_of_change() -> None:
    clock = SteppedClock()
    problems = Problems(clock)
    told: list[int] = []
    problems.listen(lambda: told.append(1))
    problems.raise_("payments.declined_late", count=1)
    since = problems.present()[0].since_monotonic
    clock.advance(5)
    problems.raise_("payments.declined_late", count=1)
    problems.set(True, "payments.declined_late", count=2)
    assert len(told) == 2
    assert problems.present()[0].since_monotonic == since
    assert problems.present()[0].title("en") == "The bank refused 2 payment(s) afterwards"
    problems.set(False, "payments.declined_late")
    problems.set(False, "payments.declined_late")
    assert len(told) == 3


def test_mistaken_call_fails_where_it_is_made() -> None:
    problems = Problems(SteppedClock())
    with pytest.raises(KeyError):
        problems.raise_("no.such")
    with pytest.raises(KeyError):
        problems.raise_("device.gone", "t1")  # the name is missing
