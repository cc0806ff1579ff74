"""Bodies about the options of one device. A secret is written and never read: no answer has its value."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hubd.model.card_data import check_free_text
from hubd.model.device_options import VALUE_MAX
from local_api.schemas import Answer, Request

OPTIONS_MAX = 32

Name = Annotated[str, msgspec.Meta(max_length=40)]
Value = Annotated[str, msgspec.Meta(max_length=VALUE_MAX)]


class OptionOut(Answer, frozen=True):
    """What may be set of a device, in words for a form, and what counts now."""

    name: str
    kind: str
    """`choice`, `number`, `text`, `secret`, or `learnt`: found out by the driver, and can only be taken back."""
    title: str
    why: str
    allowed: str
    """What a value may be, in words."""
    choices: list[str]
    least: int | None
    most: int | None
    default: str | None
    value: str | None
    """What counts now; absent for a secret."""
    source: str
    """`set`, `configuration`, `default`, or `lost`: a secret that has to be typed again."""


class DeviceOptionsOut(Answer, frozen=True):
    """The options of a device."""

    device: str
    version: int
    """The same as in the ETag."""
    waiting: bool
    """Whether they count only once the device has ended what it is doing."""
    options: list[OptionOut]


class DeviceOptionsIn(Request, frozen=True):
    """All that is to be set of a device. What is left out counts as before anybody set it.

    A secret or something learnt that is left out stays; null takes it back.
    """

    options: Annotated[dict[Name, Value | None], msgspec.Meta(max_length=OPTIONS_MAX)]

    def __post_init__(self) -> None:
        """Refuse card data."""
        for value in self.options.values():
            check_free_text(value or "", "options")
