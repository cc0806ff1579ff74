"""What services hold of a device: its port, there before it is and after it has gone, for one dialogue at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from drivers.base import Driver, ModemDriver, PrinterDriver, ScaleDriver, ScannerDriver, TerminalDriver
from drivers.runner import RECONNECT_WAIT_S, Runner
from hubd.errors import DeviceError
from hubd.model.device import Capability
from hubd.model.printing import PrintDocument
from hubd.model.sms import IncomingSms, ModemCondition, SmsOutcome, SmsRefused, SmsReport
from hubd.ports import (
    AuthorizeRequest,
    Diagnosis,
    Enquiry,
    EnquiryRequest,
    FlushResult,
    Inconclusive,
    NotPrinted,
    NotStarted,
    NoWeight,
    Outcome,
    PrinterCondition,
    PrintOutcome,
    ProgressSink,
    ReverseRequest,
    Scan,
    Serviced,
    StillRunning,
    TerminalStatus,
    TerminalTotals,
    TraceLine,
    Weight,
)

D = TypeVar("D", bound=Driver)


class Face(Generic[D]):
    """What all kinds of devices have in common."""

    def __init__(self, runner: Runner, driver: D) -> None:
        self._runner = runner
        self._driver = driver

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this device can do."""
        return self._driver.capabilities

    @property
    def status(self) -> TerminalStatus:
        """How it is now."""
        return self._runner.status()


class RunnerTerminal(Face[TerminalDriver]):
    """`hubd.ports.Terminal` for a device that comes and goes."""

    async def baseline(self) -> str:
        """The last receipt number, or "" when it cannot be told now."""
        try:
            async with self._runner.dialogue(quiet=True):
                return await self._driver.baseline()
        except DeviceError:
            return ""

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment; `NotStarted` when the terminal is busy or not there."""
        try:
            async with self._runner.dialogue():
                return await self._driver.authorize(request, self._runner.heard(progress))
        except DeviceError as error:
            return _not_started(error)

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """Ask what became of a payment; waits a little for a line that is being reopened."""
        try:
            async with self._runner.dialogue(RECONNECT_WAIT_S):
                return await self._driver.enquire(request)
        except DeviceError as error:
            if error.code == "device.busy" or self._runner.busy_elsewhere:
                return StillRunning()
            return Inconclusive("terminal_unreachable")

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Undo a payment; `NotStarted` when the terminal is busy or not there."""
        try:
            async with self._runner.dialogue():
                return await self._driver.reverse(request, self._runner.heard(progress))
        except DeviceError as error:
            return _not_started(error)

    async def abort(self) -> bool:
        """Ask the running dialogue to stop; True if the request was sent."""
        return await self._driver.abort()

    async def end_of_day(self) -> TerminalTotals:
        """Close the batch, or raise DeviceError."""
        async with self._runner.dialogue():
            return await self._driver.end_of_day()

    async def send_offline(self) -> FlushResult:
        """Send stored transactions; `complete` is false with a reason when that was not possible."""
        try:
            async with self._runner.dialogue():
                return await self._driver.send_offline()
        except DeviceError as error:
            return FlushResult(complete=False, reason=_not_started(error).reason)

    async def diagnose(self) -> Diagnosis:
        """Let the terminal test its line to its host, or raise DeviceError."""
        async with self._runner.dialogue():
            return await self._driver.diagnose()

    async def parameter_session(self) -> Serviced:
        """See `hubd.ports.Serviceable`; raises DeviceError when it is busy or not there."""
        async with self._runner.dialogue():
            return await self._driver.parameter_session()

    async def tms_contact(self) -> Serviced:
        """See `hubd.ports.Serviceable`; raises DeviceError when it is busy or not there."""
        async with self._runner.dialogue():
            return await self._driver.tms_contact()

    async def show(self, lines: tuple[str, ...], seconds: int) -> Serviced:
        """See `hubd.ports.Showing`; raises DeviceError when it is busy or not there."""
        async with self._runner.dialogue():
            return await self._driver.show(lines, seconds)


class RunnerPrinter(Face[PrinterDriver]):
    """`hubd.ports.Printer` for a device that comes and goes."""

    @property
    def condition(self) -> PrinterCondition:
        """Paper, cover and drawer as the printer last said."""
        return self._driver.condition

    async def print(self, document: PrintDocument) -> PrintOutcome:
        """Print once; `NotPrinted` when the printer is busy or not there."""
        try:
            async with self._runner.dialogue():
                return await self._driver.print(document)
        except DeviceError as error:
            return _not_printed(error)

    async def open_drawer(self) -> PrintOutcome:
        """Open the drawer; `NotPrinted` when the printer is busy or not there."""
        try:
            async with self._runner.dialogue():
                return await self._driver.open_drawer()
        except DeviceError as error:
            return _not_printed(error)

    async def display(self, rows: tuple[str, ...]) -> PrintOutcome:
        """See `hubd.ports.Displaying`; `NotPrinted` when the printer is busy or not there."""
        try:
            async with self._runner.dialogue(quiet=True):
                return await self._driver.display(rows)
        except DeviceError as error:
            return _not_printed(error)


class RunnerScale(Face[ScaleDriver]):
    """`hubd.ports.Scale` for a device that comes and goes."""

    async def weigh(self) -> Weight | NoWeight:
        """Ask once; `NoWeight` when the scale is busy or not there."""
        try:
            async with self._runner.dialogue(quiet=True):
                return await self._driver.weigh()
        except DeviceError as error:
            return _no_weight(error)

    async def zero(self) -> NoWeight | None:
        """Set the empty scale to zero."""
        try:
            async with self._runner.dialogue(quiet=True):
                return await self._driver.zero()
        except DeviceError as error:
            return _no_weight(error)


class RunnerScanner(Face[ScannerDriver]):
    """`hubd.ports.Scanner` for a device that comes and goes."""

    def listen(self, sink: Callable[[Scan], None]) -> None:
        """Give every scan to `sink` from now on."""
        self._driver.listen(sink)


class RunnerModem(Face[ModemDriver]):
    """`hubd.ports.Modem` for a device that comes and goes."""

    @property
    def condition(self) -> ModemCondition:
        """Network and signal as the modem last said."""
        return self._driver.condition

    async def send(self, number: str, text: str, message_id: str) -> SmsOutcome:
        """Send once; `SmsRefused` when the modem is busy or not there."""
        try:
            async with self._runner.dialogue():
                return await self._driver.send(number, text, message_id)
        except DeviceError as error:
            return SmsRefused(_why(error), permanent=False, remedy=error.remedy)

    async def take(self, commit: Callable[[IncomingSms], Awaitable[None]]) -> int:
        """See `hubd.ports.Modem.take`."""
        async with self._runner.dialogue():
            return await self._driver.take(commit)

    def listen(self, sink: Callable[[SmsReport | None], None]) -> None:
        """Give delivery reports and news of messages to `sink` from now on."""
        self._driver.listen(sink)


AnyFace = RunnerTerminal | RunnerPrinter | RunnerScale | RunnerScanner | RunnerModem


class RunningDevice:
    """A runner and the face of its device, always the same object."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._face = face_of(runner)

    @property
    def face(self) -> AnyFace:
        """What services hold."""
        return self._face

    async def run(self) -> None:
        """Keep the device alive until cancelled."""
        await self.runner.run()

    async def traced(self, after: int, wait_s: float) -> list[TraceLine]:
        """See `hubd.services.devices.RunningDriver`."""
        return await self.runner.trace.lines_within(after, wait_s)

    async def look(self) -> str:
        """See `hubd.services.devices.RunningDriver`."""
        return await self.runner.look()

    def expect(self, number: str) -> None:
        """See `Runner.expect`."""
        self.runner.expect(number)

    def follow(self, url: str) -> None:
        """See `Runner.follow`."""
        self.runner.follow(url)


def face_of(runner: Runner) -> AnyFace:
    """The face for the kind of driver that the runner runs."""
    match runner.driver:
        case TerminalDriver() as driver:
            return RunnerTerminal(runner, driver)
        case PrinterDriver() as driver:
            return RunnerPrinter(runner, driver)
        case ScaleDriver() as driver:
            return RunnerScale(runner, driver)
        case ScannerDriver() as driver:
            return RunnerScanner(runner, driver)
        case ModemDriver() as driver:
            return RunnerModem(runner, driver)
        case driver:
            raise TypeError(f"{type(driver).__name__} is a driver of no known kind of device")


def _not_started(error: DeviceError) -> NotStarted:
    reason = "terminal_busy" if error.code == "device.busy" else "terminal_unreachable"
    return NotStarted(reason, error.remedy)


def _not_printed(error: DeviceError) -> NotPrinted:
    return NotPrinted(_why(error), error.remedy)


def _no_weight(error: DeviceError) -> NoWeight:
    return NoWeight(_why(error), error.remedy)


def _why(error: DeviceError) -> str:
    return "busy" if error.code == "device.busy" else "unreachable"
