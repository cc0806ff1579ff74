"""Requests and answers about a terminal's life."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hubd.model.card_data import check_free_text
from local_api.schemas import Answer, IdText, Request, ShortText

Provider = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
Providers = Annotated[tuple[Provider, ...], msgspec.Meta(max_length=8)]


class SoftTerminalIn(Request, frozen=True):
    """A terminal that is an app on a phone: its vendor's app has custody of what it stores."""

    name: ShortText
    location: IdText
    device_class: Literal["soft"] = "soft"

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.name, "name")


class StepIn(Request, frozen=True):
    """A step that a person takes; `value` is the location's id or the name."""

    step: Literal["claimed", "located", "named"]
    value: Annotated[str, msgspec.Meta(max_length=60)] = ""

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.value, "value")


class MoveIn(Request, frozen=True):
    """The location where it is used from now on."""

    location: IdText


class DeclarationIn(Request, frozen=True):
    """What a person says of a terminal. Its passwords are never asked for and have no place here."""

    model: Annotated[str, msgspec.Meta(max_length=60)] = ""
    providers: Providers = ()
    default_password: bool | None = None

    def __post_init__(self) -> None:
        """Refuse card data."""
        for text in (self.model, *self.providers):
            check_free_text(text, "declaration")


class ParameterSessionIn(Request, frozen=True):
    """Providers for which a person has run the session at the terminal; none: the hub tells the terminal."""

    done: Providers = ()

    def __post_init__(self) -> None:
        """Refuse card data."""
        for text in self.done:
            check_free_text(text, "done")


class ServiceRunOut(Answer, frozen=True):
    """What became of a call home. `ran` is false where the protocol has no word for it: then `steps` say what to do."""

    ran: bool
    done: bool
    reason: str | None
    left: list[str]
    steps: list[str]
    before: str | None
    after: str | None


class LifeOut(Answer, frozen=True):
    """How far a terminal is; `software` is `unknown` where its protocol does not tell."""

    device: str
    step: str
    admin: str | None
    model: str | None
    providers: list[str]
    left: list[str]
    default_password: bool | None
    software: str
    needs: str | None
    steps: list[str]
    support: str | None
