"""One device, kept alive: open the line, identify, watch, reopen with back-off, close. Failures stay inside.

`Runner.run` is the only owner of the line. Services hold the device's face (`drivers.faces`), which is there before the
device is and after it has gone, and which lets one dialogue run at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import MappingProxyType
from urllib.parse import urlsplit

from msgspec.structs import replace

from drivers.appetite import Budget, MeteredStream
from drivers.base import (
    Driver,
    DriverFactory,
    DriverOptions,
    Identity,
    Lines,
    ModemDriver,
    PrinterDriver,
    ScaleDriver,
    ScannerDriver,
    TerminalDriver,
)
from drivers.link import no_answer
from drivers.trace import DEFAULT_LIMITS, Trace, TracedStream, TraceLimits
from hubd.errors import DeviceError, HubError, Retry
from hubd.model.device import Capability, DeviceState
from hubd.ports import (
    AcceptLines,
    ByteStream,
    LastProblem,
    OpenTransport,
    Progress,
    ProgressSink,
    ServeLine,
    TerminalStatus,
    Way,
)
from hubd.runtime import Runtime

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 5.0
IDENTIFY_TIMEOUT_S = 30.0
SILENT_AFTER_KEEP_ALIVES = 2.0
"""Age of the last good answer, in keep-alives, from which a device that should have been asked counts as silent."""
REOPEN_INITIAL_S = 0.5
REOPEN_MAX_S = 30.0
RECONNECT_WAIT_S = 10.0
"""How long an enquiry waits for a line that is just being opened again."""
BABBLE = frozenset({"babble", "not_evdev"})
"""Reasons for which a driver gives a line up because the device talks without sense or end."""
BABBLE_SHOWN_S = 2 * REOPEN_MAX_S
"""A device that speaks by itself shows nothing when its line is opened: so long it must have kept from babbling."""
CHECK_WAIT_S = 12.0
"""How long a dialogue waits for a sign of life that is just being asked for."""

OnChange = Callable[[str, TerminalStatus], None]
OnMoved = Callable[[str, str], None]
"""(device id, address): the device has answered at another address, and is the same one."""
OnLearnt = Callable[[str, DriverOptions], None]
"""(device id, options): what the device has shown of itself, to be kept; "" is to be forgotten."""
NO_OPTIONS: DriverOptions = MappingProxyType({})


def accept_none(port: int, host: str, serve: ServeLine) -> AbstractAsyncContextManager[None]:
    """No line can be accepted here. Raises OSError."""
    raise OSError(f"no port {port} for {host} and {serve.__qualname__}")


_REMEDIES = {
    "unreachable": "Check the {device}'s power and its cable or network; the hub reconnects by itself.",
    "line_lost": "If it happens again and again, check the {device}'s cable, its plug and its power.",
    "no_answer": "Switch the {device} off and on; check its cable, and that its settings are those of the hub.",
    "not_zvt": "Another kind of device answers at this address. Correct the address, or the {device}'s protocol.",
    "babble": "Check the cable and the speed of the line, then switch the {device} off and on.",
    "other_device": "Another {device} answers at the address that was announced. Check the numbers of both.",
    "terminal_busy": "Finish or cancel what the terminal shows.",
    "diagnosis_required": "Run a diagnosis of the terminal.",
}
_TERMINAL_REMEDIES = {
    "no_answer": "Switch the terminal off and on; check that its link to the cash register is switched on in its menu.",
}
_TERMINAL_SAYS, _LOOK = "Read the terminal's display.", "Look at the {device}: its lamps, its paper, its cable."
"""For a problem that nobody has words for."""
_CALLED = (
    (TerminalDriver, "terminal"),
    (PrinterDriver, "printer"),
    (ScaleDriver, "scale"),
    (ScannerDriver, "scanner"),
    (ModemDriver, "modem"),
)


def called(driver: Driver) -> str:
    """What people call a device with this driver."""
    return next((name for kind, name in _CALLED if isinstance(driver, kind)), "device")


def remedy_of(problem: str, device: str) -> str:
    """What a person does about a problem of a device of this name; empty without a problem."""
    if not problem:
        return ""
    if device == "terminal":
        known = _TERMINAL_REMEDIES.get(problem) or _REMEDIES.get(problem, _TERMINAL_SAYS)
    else:
        known = _REMEDIES.get(problem, _LOOK)
    return known.format(device=device)


class Runner:
    """Runs one driver on one endpoint until it is cancelled."""

    def __init__(
        self,
        device_id: str,
        factory: DriverFactory,
        url: str,
        open_transport: OpenTransport,
        runtime: Runtime,
        on_change: OnChange,
        options: DriverOptions = NO_OPTIONS,
        on_moved: OnMoved = lambda _device, _url: None,
        accept_lines: AcceptLines = accept_none,
        trace_limits: TraceLimits = DEFAULT_LIMITS,
        on_learnt: OnLearnt = lambda _device, _options: None,
    ) -> None:
        self._accept_lines = accept_lines
        self._device_id = device_id
        self._url = url
        self._announced = ""
        """Another address at which the device may be now; tried in turn with its own until it answers there."""
        self._refused = ""
        """The address where another device answered: not tried again."""
        self._hurry = asyncio.Event()
        self._on_moved = on_moved
        self._open_transport = open_transport
        self._clock, self._rng = runtime.clock, runtime.rng
        self._on_change = on_change
        self.driver = factory(runtime, options)
        self.driver.learnt = partial(on_learnt, device_id)
        self._name = called(self.driver)
        self.trace = Trace(runtime.clock, trace_limits)
        self._status = TerminalStatus(DeviceState.CONNECTING, None)
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._checking = False
        self._budget = Budget(runtime.clock, self.driver.appetite)
        self._babbled_at: float | None = None

    async def run(self) -> None:
        """Keep the device alive for ever; cancellation closes the line. Raises nothing that a device can cause."""
        failures = 0
        url = self._url
        try:
            while True:
                began = self._clock.monotonic()
                worked = await self._session(url)
                if worked or self._clock.monotonic() - began > BABBLE_SHOWN_S:
                    failures = 0
                failures += not worked
                pause_s = min(REOPEN_MAX_S, REOPEN_INITIAL_S * 2 ** min(failures, 16))
                with contextlib.suppress(TimeoutError):
                    async with self._clock.timeout(pause_s * self._rng.uniform(0.5, 1.0)):
                        await self._hurry.wait()
                self._hurry.clear()
                # Its own address first: whoever announces another one must not take it away with every lost line.
                url = self._announced if self._announced and url == self._url and not worked else self._url
        finally:
            self._set(DeviceState.GONE, "stopped")

    def expect(self, number: str) -> None:
        """The device's number as it was known before this start; see `_moved`."""
        self._status = replace(self._status, terminal_id=number)

    def follow(self, url: str) -> None:
        """The device was seen at an address: try it, now if it is not reached. It stays where it answers."""
        if url == self._url and not self._ready.is_set():
            self._hurry.set()
        if url in (self._url, self._announced, self._refused):
            return
        self._announced = url
        self._hurry.set()

    # -- one line, from opening to loss --------------------------------------------------------------------------------

    async def _session(self, url: str) -> bool:
        """Return whether the device became ready on this line, and did not lose it by babbling."""
        try:
            async with self._clock.timeout(OPEN_TIMEOUT_S):
                stream = await self._open(url)
        except OSError as error:
            self.trace.note(Way.LINE, [f"cannot be opened: {error.strerror or type(error).__name__}"])
            self._set(DeviceState.GONE, "unreachable")
            return False
        except HubError as error:
            self.trace.note(Way.LINE, [f"cannot be opened: {error.code}"])
            self._set(DeviceState.FAULTY, error.code, error.remedy)
            return False
        self.driver.attach(stream, url, Lines(partial(self._open, url), partial(self._accept, url)))
        worked = False
        async with asyncio.TaskGroup() as group:
            pumping = group.create_task(self._pump(), name=f"device:{self._device_id}:pump")
            try:
                worked = await self._introduce(url)
                if worked:
                    await self._watch()
            finally:
                self._ready.clear()
                await self.driver.close()
        if pumping.result() in BABBLE:
            self._set(DeviceState.FAULTY, "babble")
            return False
        return worked

    def _accept(self, url: str, port: int, serve: ServeLine) -> AbstractAsyncContextManager[None]:
        async def traced(stream: ByteStream) -> None:
            self.trace.note(Way.LINE, [f"accepted at port {port}"])
            # A line costs something too: one that calls without end babbles.
            if self._budget.spend(self._budget.piece_bytes):
                await serve(self._traced(stream, url))

        return self._accept_lines(port, urlsplit(url).hostname or "", traced)

    async def _open(self, url: str) -> ByteStream:
        stream = await self._open_transport(url)
        self.trace.note(Way.LINE, ["opened"])
        return self._traced(stream, url)

    def _traced(self, stream: ByteStream, url: str) -> ByteStream:
        traced = TracedStream(stream, self.trace, *self.driver.describers(url))
        return MeteredStream(traced, self._clock, self._budget, self._note_babble)

    def _note_babble(self) -> None:
        self._babbled_at = self._clock.monotonic()

    async def _pump(self) -> str:
        """Read until the line is lost, and return why."""
        before = self._babbled_at
        reason = await self.driver.pump()
        if reason in BABBLE:
            self._note_babble()
        elif self._babbled_at != before:
            reason = "babble"  # the driver only knows that its line broke
        log.info("device.line_lost", extra={"device_id": self._device_id, "reason": reason})
        self.trace.note(Way.LINE, [f"lost: {reason}"])
        self._ready.clear()
        if reason in BABBLE:
            if self._status.state is DeviceState.READY:
                self._set(DeviceState.FAULTY, "babble")
        elif self._status.state in (DeviceState.READY, DeviceState.BUSY) and reason != "closed":
            self._remember("line_lost", remedy_of("line_lost", self._name))
        if self._status.state is DeviceState.READY:
            self._set(DeviceState.CONNECTING)
        self._wake.set()
        return reason

    async def _introduce(self, url: str) -> bool:
        try:
            async with self._turn, self._clock.timeout(IDENTIFY_TIMEOUT_S):
                identity = await self.driver.identify()
        except OSError:
            if not self._babbled_lately():
                self._set(DeviceState.SILENT, "no_answer")
            return False
        except DeviceError as error:
            self._note_refusal(error)
            return False
        if url != self._url and not self._moved(url, identity):
            return False
        self._answered(identity)
        self._ready.set()
        return True

    def _moved(self, url: str, identity: Identity) -> bool:
        """Whether it is our device that answers at its announced address; from now on this is its address."""
        self._announced = ""
        known = self._status.terminal_id
        if known and identity.device_number and identity.device_number != known:
            self._refused = url
            self._set(DeviceState.FAULTY, "other_device")
            return False
        self._url = url
        self._on_moved(self._device_id, url)
        return True

    def _note_refusal(self, error: DeviceError) -> None:
        reason = str(error.params.get("reason", error.code))
        if error.code == "device.busy":
            self._set(DeviceState.BUSY, "terminal_busy")
        elif error.code in ("device.no_answer", "device.gone"):
            self._set(DeviceState.SILENT, "no_answer")
        else:
            self._set(DeviceState.FAULTY, reason, error.remedy)

    async def _watch(self) -> None:
        """Return when the line cannot be used any more."""
        while True:
            self._wake.clear()
            if not self._turn.locked():
                if not self.driver.usable:
                    return
                if self._age_s() >= self.driver.keep_alive_s:
                    await self._check()
                    continue
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(max(1.0, self.driver.keep_alive_s - self._age_s())):
                    await self._wake.wait()

    async def _check(self) -> None:
        self._checking = True
        try:
            async with self._turn:
                identity = await self.driver.check()
        except (OSError, DeviceError):
            # The line is closed and opened again at once; if that does not help either, the device is silent.
            log.info("device.no_sign_of_life", extra={"device_id": self._device_id})
            return
        finally:
            self._checking = False
        self._answered(identity)

    # -- status --------------------------------------------------------------------------------------------------------

    @property
    def _silent_after_s(self) -> float:
        return SILENT_AFTER_KEEP_ALIVES * self.driver.keep_alive_s

    def _age_s(self) -> float:
        last = self._status.last_answer_monotonic
        return self._silent_after_s if last is None else self._clock.monotonic() - last

    def _answered(self, identity: Identity | None = None) -> None:
        number = (identity.device_number if identity else "") or self._status.terminal_id
        software = (identity.software if identity else "") or self._status.software
        now = self._clock.monotonic()
        self._status = replace(self._status, last_answer_monotonic=now, terminal_id=number, software=software)
        if identity is not None:
            problem, remedy = identity.problem, identity.remedy
            if not problem and isinstance(self.driver, ScannerDriver) and self._babbled_lately():
                problem = "babble"
        elif self._known_problem():
            problem, remedy = self._status.problem, self._status.remedy
        else:
            problem, remedy = "", ""
        self._set(DeviceState.FAULTY if problem else DeviceState.READY, problem, remedy)

    def _babbled_lately(self) -> bool:
        return self._babbled_at is not None and self._clock.monotonic() - self._babbled_at < BABBLE_SHOWN_S

    def _known_problem(self) -> bool:
        return self._status.state is DeviceState.FAULTY

    def _set(self, state: DeviceState, problem: str = "", remedy: str = "") -> None:
        before = self._status
        remedy = remedy or remedy_of(problem, self._name)
        self._status = replace(before, state=state, problem=problem, remedy=remedy)
        if (before.state, before.problem) == (state, problem):
            return
        if problem and problem not in (before.problem, "stopped"):
            self._remember(problem, remedy)
        quiet = {DeviceState.READY, DeviceState.BUSY}
        if not ({before.state, state} <= quiet):
            fields = {"device_id": self._device_id, "state": state.value, "problem": problem}
            log.log(logging.INFO if state in quiet else logging.WARNING, "device.state", extra=fields)
        self._on_change(self._device_id, self.status())

    def _remember(self, problem: str, remedy: str) -> None:
        last = LastProblem(problem, remedy, self._clock.now_us())
        self._status = replace(self._status, last_problem=last)

    def status(self) -> TerminalStatus:
        """State by the age of the last good answer: a line that is open and says nothing does not count."""
        if self._status.state is DeviceState.READY and self._age_s() > self._silent_after_s and not self._turn.locked():
            remedy = remedy_of("no_answer", self._name)
            return replace(self._status, state=DeviceState.SILENT, problem="no_answer", remedy=remedy)
        return self._status

    # -- for its face --------------------------------------------------------------------------------------------------

    @property
    def driver_capabilities(self) -> frozenset[Capability]:
        """What the driver can do."""
        return self.driver.capabilities

    @contextlib.asynccontextmanager
    async def dialogue(self, wait_ready_s: float = 0.0, *, quiet: bool = False) -> AsyncIterator[None]:
        """The turn for one dialogue. Raises DeviceError `device.busy` or `device.gone` before anything is sent.

        A `quiet` one is not shown as busy: it takes no time that a person would notice.
        """
        if self._turn.locked() and not self._checking and self._ready.is_set():
            raise _busy(self._name)
        try:
            async with self._clock.timeout(max(wait_ready_s, CHECK_WAIT_S if self._checking else 0.0)):
                if wait_ready_s:
                    await self._ready.wait()
                await self._turn.acquire()
        except TimeoutError:
            raise _gone(self._name) if not self._ready.is_set() else _busy(self._name) from None
        try:
            if not (self._ready.is_set() and self.driver.usable):
                raise _gone(self._name)
            if not quiet:
                self._set(DeviceState.BUSY, self._status.problem if self._known_problem() else "")
            yield
        finally:
            self._turn.release()
            self._after_dialogue()

    async def look(self) -> str:
        """Ask for a sign of life now, without moving money; return what it told of its software by that, or "".

        Raises DeviceError when none comes, or before it asks.
        """
        async with self.dialogue(quiet=True):
            try:
                identity = await self.driver.check()
            except OSError:
                raise no_answer() from None
        self._answered(identity)
        return identity.software

    def _after_dialogue(self) -> None:
        if self.driver.usable and self._ready.is_set():
            self._answered(self.driver.noticed)
        else:
            self._ready.clear()
            if self._status.state in (DeviceState.BUSY, DeviceState.READY):
                self._set(DeviceState.CONNECTING)
        self._wake.set()

    @property
    def busy_elsewhere(self) -> bool:
        """Whether the terminal refused us because it is in the middle of something."""
        return self._status.problem == "terminal_busy"

    def heard(self, sink: ProgressSink) -> ProgressSink:
        """A sink that also counts progress as a sign of life."""

        def note(progress: Progress) -> None:
            self._status = replace(self._status, last_answer_monotonic=self._clock.monotonic())
            sink(progress)

        return note


def _busy(name: str) -> DeviceError:
    shown = "Finish or cancel what the terminal shows, then try again." if name == "terminal" else "Try again."
    return DeviceError(
        "device.busy",
        f"The {name} is in the middle of another dialogue.",
        remedy=shown,
        retry=Retry.SAME_REQUEST,
        retry_after_s=5,
    )


def _gone(name: str) -> DeviceError:
    return DeviceError(
        "device.gone",
        f"The {name} is not connected.",
        remedy=remedy_of("unreachable", name),
        retry=Retry.SAME_REQUEST,
        retry_after_s=10,
    )
