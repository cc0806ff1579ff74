"""Problems as values: what is known of one before it occurs, one occurrence, and which of them people see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from msgspec import Struct, field

from hubd.model.money import Money

LANGUAGES = ("en", "fr", "nl")
FormatMoney = Callable[[Money], str]


class Severity(StrEnum):
    """How much it hurts the shop."""

    CRITICAL = "critical"
    """Money is at stake or selling stops."""
    WARNING = "warning"
    """Something does not work; selling goes on."""
    NOTICE = "notice"
    """Somebody should see to it one day."""


class Text(Struct, frozen=True):
    """One sentence or two in the languages of the hub."""

    en: str
    fr: str
    nl: str

    def of(self, language: str) -> str:
        """The text in a language; English for one that the hub does not speak."""
        return {"fr": self.fr, "nl": self.nl}.get(language[:2], self.en)


class ProblemKind(Struct, frozen=True):
    """What is known of a problem before it occurs."""

    code: str
    severity: Severity
    title: Text
    remedy: Text
    money_title: Text | None = None
    """The title while money is in it: such a problem ranks before all others."""
    depends_on: tuple[str, ...] = ()
    """Codes that explain this one; while one of them is shown, this one is not."""
    visible_after_s: int = 0
    """A shorter one is never shown."""


class Problem(Struct, frozen=True):
    """One occurrence. `subject` is the id of what it is about (a device), empty for the hub itself."""

    kind: ProblemKind
    subject: str
    since_us: int
    since_monotonic: float
    money: tuple[Money, ...] = ()
    params: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The stable name."""
        return self.kind.code

    @property
    def severity(self) -> Severity:
        """Critical as soon as money is in it."""
        return Severity.CRITICAL if self.money else self.kind.severity

    def title(self, language: str, format_money: FormatMoney = Money.plain) -> str:
        """What is wrong, in one sentence; by the money if there is any in it."""
        text = self.kind.money_title if self.money and self.kind.money_title else self.kind.title
        return self._filled(text, language, format_money)

    def remedy(self, language: str, format_money: FormatMoney = Money.plain) -> str:
        """What a person does next."""
        return self._filled(self.kind.remedy, language, format_money)

    def _filled(self, text: Text, language: str, format_money: FormatMoney) -> str:
        money = " + ".join(format_money(one) for one in self.money)
        return text.of(language).format_map({**self.params, "money": money})


_SEVERITIES = tuple(Severity)


def rank(problem: Problem) -> tuple[bool, int, float]:
    """Sort key: what holds money, then by severity, then the oldest."""
    return (not problem.money, _SEVERITIES.index(problem.severity), problem.since_monotonic)


def shown(problems: Iterable[Problem], now_monotonic: float) -> list[Problem]:
    """The problems that people see, most important first: old enough, and not explained by another that is shown.

    One with money in it is never hidden by its explanation.
    """
    old = [one for one in problems if now_monotonic - one.since_monotonic >= one.kind.visible_after_s]
    codes = {one.code for one in old}
    kept = [one for one in old if one.money or not codes.intersection(one.kind.depends_on)]
    return sorted(kept, key=rank)
