"""The steps by which a terminal comes into use, and what its vendor's texts mean (domain D01, D07, D15)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from enum import StrEnum

from hubd.errors import DeviceError

SOFT_CLASS = "soft"
"""Class of a terminal that is an app on a phone: its vendor's app has custody, the hub drives nothing (domain D06)."""
PROVIDERS_MAX = 8


class LifeStep(StrEnum):
    """How far a terminal is. None can be skipped; a step once journalled holds over a power cut."""

    DISCOVERED = "discovered"
    """Known, and nobody stands behind it."""
    CLAIMED = "claimed"
    """A person stands behind it: it counts as logged in by him (D03)."""
    LOCATED = "located"
    NAMED = "named"
    """From here on its driver runs."""
    SYNCED = "synced"
    """It has said who it is and has taken the settings it needs: registration, currency, where receipts go."""
    ACTIVE = "active"
    """It takes payments."""


_ORDER = tuple(LifeStep)


def check_step(now: LifeStep, wanted: LifeStep) -> None:
    """Raise `device.step_skipped`, naming the next step, unless `wanted` is that one."""
    index = _ORDER.index(now)
    following = _ORDER[index + 1] if index + 1 < len(_ORDER) else LifeStep.ACTIVE
    if wanted is not following:
        raise DeviceError(
            "device.step_skipped",
            f"The terminal is {now} and cannot become {wanted}.",
            remedy=f"The next step is: {following}.",
            params={"step": now.value, "next": following.value},
        )


def is_beyond(now: LifeStep, step: LifeStep) -> bool:
    """Whether a terminal has taken this step."""
    return _ORDER.index(now) >= _ORDER.index(step)


class Needs(StrEnum):
    """What a text on a terminal's screen or paper says that it needs."""

    NOTHING = ""
    PARAMETER_SESSION = "parameter_session_needed"
    TMS_CONTACT = "tms_contact_needed"


_TEXTS = {
    Needs.PARAMETER_SESSION: (
        "La session de paramètres acquirer a échoué",
        "La session de paramètres acquirer n'existe pas",
        "La session de paramètres acquirer a expiré",
        "The acquirer parameter session has failed",
        "The acquirer parameter session does not exist",
        "The acquirer parameter session has expired",
        "Acquirer parameter session failed",
        "Acquirer parameter session does not exist",
        "Acquirer parameter session expired",
        "De acquirer-parametersessie is mislukt",
        "De acquirer-parametersessie bestaat niet",
        "De acquirer-parametersessie is verlopen",
        "Acquirer parametersessie mislukt",
        "Acquirer parametersessie bestaat niet",
        "Acquirer parametersessie verlopen",
        "Die Acquirer-Parametersitzung ist fehlgeschlagen",
        "Die Acquirer-Parametersitzung existiert nicht",
        "Die Acquirer-Parametersitzung ist abgelaufen",
        "Acquirer-Parametersitzung fehlgeschlagen",
        "Acquirer-Parametersitzung existiert nicht",
        "Acquirer-Parametersitzung abgelaufen",
    ),
    Needs.TMS_CONTACT: (
        "Configuration échouée",
        "La configuration a échoué",
        "Configuration failed",
        "Configuratie mislukt",
        "Konfiguration fehlgeschlagen",
    ),
}
"""Whole sentences. The French ones are the vendor's own; the others are how its terminals are expected to say them."""
_LINES_JOINED_MAX = 4


def _plain(text: str) -> str:
    """Without accents, capitals and signs: receipts have few letters."""
    bare = "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))
    return " ".join("".join(one if one.isalnum() else " " for one in bare).split())


_NEEDS_BY_TEXT = {_plain(text): needs for needs, texts in _TEXTS.items() for text in texts}


def needs_of(lines: Iterable[str]) -> Needs:
    """What these lines say that the terminal needs.

    A sentence may be broken over up to four lines, and must be whole: inside a longer one its words mean another thing.
    """
    plain = [_plain(line) for line in lines]
    for first in range(len(plain)):
        for last in range(first + 1, min(first + _LINES_JOINED_MAX, len(plain)) + 1):
            found = _NEEDS_BY_TEXT.get(" ".join(one for one in plain[first:last] if one))
            if found is not None:
                return found
    return Needs.NOTHING
