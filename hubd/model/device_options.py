"""Options of devices: what a driver's manifest declares, and whether a value that somebody has typed is one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from hubd.errors import InvalidValueError

VALUE_MAX = 200
"""Characters of a value."""


class OptionKind(StrEnum):
    """What a value may be, and by which field of a form it is asked for."""

    CHOICE = "choice"
    NUMBER = "number"
    TEXT = "text"
    SECRET = "secret"
    """Written and never read again: no answer, no entry and no log has it."""
    LEARNT = "learnt"
    """What the driver has found out and wants to know again; a person can only make it forget that."""


class Option(Struct, frozen=True):
    """One thing that differs between installations of a driver. Every value is a text, as in the configuration."""

    name: str
    kind: OptionKind
    title: str
    """What people call it, in a few plain words."""
    why: str
    """What it is for, in one sentence."""
    default: str = ""
    """What counts when nobody has said anything; empty: the driver goes without, or finds out by itself."""
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 0
    pattern: str = ""
    """A regular expression that the whole of a text or secret fits; empty: any."""
    form: str = ""
    """The pattern in words, "six digits"."""
    after: tuple[str, ...] = ()
    """Options of which one has to be known before this one may be another than its first choice."""

    @property
    def allowed(self) -> str:
        """What a value may be, for people."""
        if self.kind is OptionKind.CHOICE:
            return f"one of {', '.join(self.choices)}"
        if self.kind is OptionKind.NUMBER:
            return f"a number from {self.least} to {self.most}"
        return self.form or f"a text of up to {VALUE_MAX} characters"

    def fits(self, value: str) -> bool:
        """Whether the driver can use this value."""
        if not 0 < len(value) <= VALUE_MAX or not value.isprintable():
            return False
        if self.kind is OptionKind.CHOICE:
            return value in self.choices
        if self.kind is OptionKind.NUMBER:
            plain = re.fullmatch(r"0|[1-9][0-9]{0,8}", value) is not None
            return plain and self.least <= int(value) <= self.most
        return not self.pattern or re.fullmatch(self.pattern, value) is not None


def check_options(declared: Sequence[Option], values: Mapping[str, str]) -> None:
    """Raise `device.option_unknown` or `device.option_invalid` for what this driver could not use.

    Neither names the value: it may be a secret. What is learnt is the driver's to say, never a caller's.
    """
    known = {option.name: option for option in declared}
    for name, value in values.items():
        option = known.get(name)
        if option is None or option.kind is OptionKind.LEARNT:
            names = ", ".join(one.name for one in declared if one.kind is not OptionKind.LEARNT)
            raise InvalidValueError(
                "device.option_unknown",
                "The driver of this device has no such option.",
                remedy=f"Name one of: {names}." if names else "Its driver has no options.",
            )
        if not option.fits(value):
            raise InvalidValueError(
                "device.option_invalid",
                f"The option {name} cannot have this value.",
                remedy=f"It is {option.allowed}.",
                params={"option": name},
            )
