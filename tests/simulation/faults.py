"""What may go wrong in a run: how likely, how often, how bad. Everything is drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.simulation.seeded import Random


@dataclass(frozen=True, slots=True)
class CallFaults:
    """Between a till and its hub; the chance of each at each request."""

    lose_request: float = 0.01
    lose_answer: float = 0.03
    impatient: float = 0.03
    """The till gives up after a moment and repeats while the first request still runs."""
    twice: float = 0.02
    """The same request arrives twice at once."""


@dataclass(frozen=True, slots=True)
class TerminalFaults:
    """Seconds between faults of one terminal (mean); 0: none."""

    every_s: float = 250.0
    lasts_s: float = 45.0
    unplug: float = 0.15
    host_alone: float = 0.1
    """The terminal's host is away although the shop's network works."""
    test_amounts: float = 0.25
    """How often a cashier types an amount at which the simulated terminal does something special."""


@dataclass(frozen=True, slots=True)
class DiskFaults:
    """Seconds between faults of the hub's disk (mean); 0: none."""

    every_s: float = 600.0
    lasts_s: float = 30.0
    slow_s: float = 3.0


@dataclass(frozen=True, slots=True)
class PowerFaults:
    """Seconds between losses of the hub (mean); 0: none."""

    every_s: float = 350.0
    at_a_commit: float = 0.5
    at_a_money_command: float = 0.25
    """The power goes around the moment at which a command that moves money leaves."""
    only_the_process: float = 0.4
    off_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ClockFaults:
    """The hub's wall clock; chances at each boot, and seconds between jumps (mean)."""

    no_battery: float = 0.1
    """The machine boots in 1970 until a witness speaks."""
    every_s: float = 1200.0
    jump_s: float = 7200.0


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """The line to the cloud: seconds between outages (mean), their length, and what messages suffer."""

    every_s: float = 500.0
    lasts_s: float = 200.0
    service_alone: float = 0.3
    """The network works, the cloud does not."""
    lose: float = 0.01
    twice: float = 0.03
    late: float = 0.05
    late_s: float = 20.0
    cut: float = 0.01
    """The connection breaks with this message."""
    quick: float = 0.3
    """The chance of a run in which a message that is not late takes no time: answers then come all at once."""


@dataclass(frozen=True, slots=True)
class HistoryFaults:
    """Chances for one run: things after which the hub does not remember what it knew."""

    restore: float = 0.25
    restore_is_announced: float = 0.5
    restarts_after: float = 0.5
    """A hub that was restored is started once more, perhaps before a till has spoken to it."""
    cloud_kills_every_s: float = 500.0
    cloud_restore: float = 0.1
    clone: float = 0.2
    """A copy of the hub's disk is booted beside it, and one of the tills finds the copy instead."""
    clone_notices: float = 0.4
    """It finds another machine around it and opens a line of its own."""
    clone_shares: float = 0.4
    """Both reach every terminal; otherwise one terminal is plugged into the clone."""
    clone_enrolled_anew: float = 0.3
    """It gets a key of its own after a while and is enrolled with it: another hub from then on."""
    clone_stays: float = 0.4
    """Until the shop closes; otherwise it is switched off sooner, with whatever it has not sent."""


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    hours: float = 0.4
    tills: int = 3
    terminals: int = 2
    sale_every_s: float = 60.0
    calls: CallFaults = field(default_factory=CallFaults)
    devices: TerminalFaults = field(default_factory=TerminalFaults)
    disk: DiskFaults = field(default_factory=DiskFaults)
    power: PowerFaults = field(default_factory=PowerFaults)
    clock: ClockFaults = field(default_factory=ClockFaults)
    link: LinkFaults = field(default_factory=LinkFaults)
    history: HistoryFaults = field(default_factory=HistoryFaults)


def draw(dice: Random, hours: float) -> Options:
    """The options of a seed: most runs have all kinds of faults, some are free of a kind so that others show."""
    options = Options(hours=hours, tills=dice.randint(2, 3), terminals=dice.randint(1, 2))
    off = 0.0
    if dice.random() < 0.2:
        options = replace(options, devices=replace(options.devices, every_s=off))
    if dice.random() < 0.3:
        options = replace(options, disk=replace(options.disk, every_s=off))
    if dice.random() < 0.2:
        options = replace(options, power=replace(options.power, every_s=off))
    if dice.random() < 0.4:
        options = replace(options, clock=replace(options.clock, every_s=off, no_battery=off))
    if dice.random() < 0.3:
        options = replace(options, calls=CallFaults(off, off, off, off))
    return options
