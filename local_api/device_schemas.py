"""Bodies of one device looked at closely: its details, its trace, what a test has shown."""

from __future__ import annotations

from typing import Annotated

import msgspec

from local_api.schemas import Answer, DeviceOut, Request


class LastProblemOut(Answer, frozen=True):
    """The problem that a device has or had last, since its driver was started."""

    code: str
    remedy: str
    at: str


class DeviceDetailOut(DeviceOut, frozen=True, kw_only=True):
    """A device and all that is known of it at this moment."""

    last_answer_s: float | None
    """Seconds since its last good answer; absent when it has not answered since its driver was started."""
    last_problem: LastProblemOut | None
    """Kept when it is over."""
    terminal_number: str | None
    """What a terminal tells of itself."""
    software: str | None
    """Name and version of a terminal's software, `unknown` where it has not told them; absent for other devices.

    Terminals without the capability `tells_software` never do: their protocol has no word for it.
    """
    known_by: str
    """The rung of the identity ladder: `serial_number`, `port_path`, `name` or `address`."""
    capabilities: list[str]
    waiting_jobs: int
    """Print jobs that wait for it."""


class TraceQuery(Request, frozen=True):
    """Which lines of a trace."""

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of the last line that is known."""
    wait_s: Annotated[int, msgspec.Meta(ge=0, le=25)] = 0
    """How long to wait for a line."""


class TraceLineOut(Answer, frozen=True):
    """What went over a device's line; `way` is `>` to the device, `<` from it, `=` the line itself."""

    number: int
    at: str
    way: str
    text: str
    times: int


class TraceOut(Answer, frozen=True):
    """A device's trace, oldest first, in memory only and without card data."""

    lines: list[TraceLineOut]


class ShownItselfOut(Answer, frozen=True):
    """How a device shows which one it is, or how the test code of a scanner is shown."""

    how: str
    """`printed`, or `shown` on its own display."""
    print_job: str | None
    """Of a printer."""


class TrialOut(Answer, frozen=True):
    """What a harmless test has shown; see `outcome` in the reference of devices."""

    outcome: str
    """`answers`, `weight`, `no_weight`, `printing`, `scanned` or `no_scan`."""
    good: bool
    remedy: str | None
    grams: int | None
    print_job: str | None
    symbology: str | None
    characters: int | None
