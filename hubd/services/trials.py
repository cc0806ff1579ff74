"""What a technician does with a device to see whether it works: look at its trace, let it show itself, try it.

Nothing here moves money: a terminal is asked for a sign of life or shows its name, a printer prints a page that says
TEST, a scale is asked for a weight, and a scanner is waited for.
"""

from __future__ import annotations

import asyncio
import textwrap
from typing import cast

from msgspec import Struct

from hubd.errors import DeviceError, NotFoundError, PrintError, Retry
from hubd.model.device import Capability, DeviceKind
from hubd.model.permissions import Permission
from hubd.model.printing import Align, Cut, PrintDocument, Qr, Row, Rule, Space, Text
from hubd.model.scanner_test import sheet
from hubd.ports import Scale, Scan, Serviced, Showing, TraceLine, Weight
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.services.devices import DeviceDesk, RunningDriver
from hubd.services.peripherals import Peripherals
from hubd.services.printing import PrintDesk, PrintRequest
from hubd.services.terminals import Terminals
from hubd.store.devices import Device

SCAN_WAIT_S = 30.0
"""How long a person has to scan something."""
TRACE_WAIT_MAX_S = 25.0

SHOWN_S, SHOW_WAIT_S = 8, 15.0
"""How long a terminal shows its name, and how long a payment at it may have to wait for that at most."""
SHOWN_CHARACTERS = 20
"""Of a line on a terminal's display; what is longer is broken."""

TEST_WORD = "TEST"
NOT_A_RECEIPT = {"en": "This is no receipt.", "fr": "Ceci n'est pas un ticket.", "nl": "Dit is geen kassabon."}
HERE_I_AM = {"en": "This printer is", "fr": "Cette imprimante est", "nl": "Deze printer is"}
THIS_TERMINAL = {"en": "This terminal is", "fr": "Ce terminal est", "nl": "Deze terminal is"}
ACCENTS = "àâäçéèêëîïôöùûüÿ ÀÇÉÈ œŒ ß € £"


class Trial(Struct, frozen=True):
    """What a test has shown."""

    outcome: str
    """`answers`, `weight`, `no_weight`, `printing`, `scanned` or `no_scan`."""
    good: bool
    """Whether the device does what it is for, as far as the hub sees it; people look at the paper."""
    remedy: str = ""
    grams: int | None = None
    print_job: str = ""
    symbology: str = ""
    """Of the code that was scanned, where the scanner tells it."""
    characters: int = 0
    """Of that code; what it says goes to its till only."""


class ShownItself(Struct, frozen=True):
    """How a device shows which one it is."""

    how: str
    """`printed` or `shown`, on its own display."""
    print_job: str = ""


class TrialDesk:
    """Traces, identifies and tests devices for people who may operate them at their location."""

    def __init__(
        self,
        runtime: Runtime,
        devices: DeviceDesk,
        terminals: Terminals,
        peripherals: Peripherals,
        printing: PrintDesk,
    ) -> None:
        self._clock, self._ids = runtime.clock, runtime.ids
        self._terminals = terminals
        self._devices, self._peripherals, self._printing = devices, peripherals, printing
        self._awaited: dict[str, list[asyncio.Future[Scan]]] = {}
        peripherals.on_scan(self._scanned)

    async def trace(self, device_id: str, after: int, wait_s: float, caller: Caller) -> list[TraceLine]:
        """The lines of its trace behind a number; waits for one, `wait_s` or 25 seconds at most. No card data.

        Raises `device_unknown`, and `device.gone` for one whose driver does not run.
        """
        device = await self._device(device_id, caller)
        return await self._running(device).traced(after, min(wait_s, TRACE_WAIT_MAX_S))

    async def identify(self, device_id: str, caller: Caller) -> ShownItself:
        """Let the device show which one it is: a printer on paper, a terminal on its display where it can.

        Raises `device.cannot_show_itself` for others, `device.busy` for a terminal that works on a payment (which is
        never interrupted), `device.gone` and `device.no_answer`.
        """
        device = await self._device(device_id, caller)
        if device.kind is DeviceKind.TERMINAL:
            await self._show(device, caller.language[:2])
            return ShownItself("shown")
        if device.kind is not DeviceKind.PRINTER:
            raise _cannot_show_itself()
        said = HERE_I_AM.get(caller.language[:2], HERE_I_AM["en"])
        items = (Text(said), Text(device.name, Align.CENTER, bold=True, large=True), Space(2), Cut())
        job = await self._print(device, PrintDocument(device.name, items, caller.language[:2]), caller)
        return ShownItself("printed", job)

    async def _show(self, device: Device, language: str) -> None:
        self._running(device)
        attached = self._terminals.get(device.id)
        if attached is None:
            raise _not_in_use()
        if Capability.SHOW_TEXT not in attached.terminal.capabilities:
            raise _cannot_show_itself()
        if attached.payment_id or attached.lock.locked():
            raise _busy()
        said = THIS_TERMINAL.get(language, THIS_TERMINAL["en"])
        lines = (said, *textwrap.wrap(device.name, SHOWN_CHARACTERS))
        async with attached.lock:
            try:
                async with self._clock.timeout(SHOW_WAIT_S):
                    shown = await cast("Showing", attached.terminal).show(lines, SHOWN_S)
            except TimeoutError:
                shown = Serviced(done=False, reason="no_answer")
        if not shown.done:
            raise _not_shown(shown.reason)

    async def print_test_code(self, device_id: str, caller: Caller) -> str:
        """Print the test code for a scanner that types, on the printer of its till or place; returns the print job.

        Raises `device.no_test_code` for anything but a scanner, and `no_printer`.
        """
        device = await self._device(device_id, caller)
        if device.kind is not DeviceKind.SCANNER:
            raise DeviceError(
                "device.no_test_code", "Only scanners read the test code.", remedy="Choose a scanner that types."
            )
        printer = self._peripherals.choose(DeviceKind.PRINTER, device.role.removeprefix("till:"), device.location)
        if printer is None:
            raise PrintError(
                "no_printer",
                "This location has no printer in use.",
                remedy="Let the scanner read the code from the screen of its page.",
            )
        job = self._ids.new_id()
        await self._printing.submit(PrintRequest(job, sheet(caller.language[:2]), printer.id), caller)
        return job

    async def test(self, device_id: str, caller: Caller) -> Trial:
        """Try what the device is for, without moving money. Waits up to 30 seconds for a scan.

        Raises `device_unknown`, and DeviceError `device.gone`, `device.busy` or `device.no_answer` as the device is.
        """
        device = await self._device(device_id, caller)
        match device.kind:
            case DeviceKind.PRINTER:
                return Trial("printing", True, print_job=await self._print(device, trial_page(device, caller), caller))
            case DeviceKind.SCALE:
                return await self._weigh(device)
            case DeviceKind.SCANNER:
                return await self._scan(device)
            case _:
                await self._running(device).look()
                return Trial("answers", True)

    async def _device(self, device_id: str, caller: Caller) -> Device:
        device = (await self._devices.get(device_id)).device
        caller.need_at(Permission.DEVICES_OPERATE, device.location)
        if not device.driver:
            raise NotFoundError(
                "device_unknown", "The hub drives no device of this id.", remedy="Choose a terminal or a peripheral."
            )
        return device

    def _running(self, device: Device) -> RunningDriver:
        running = self._devices.running(device.id)
        if running is None:
            raise _not_in_use()
        return running

    async def _print(self, device: Device, document: PrintDocument, caller: Caller) -> str:
        self._running(device)
        job = self._ids.new_id()
        await self._printing.submit(PrintRequest(job, document, device.id), caller)
        return job

    async def _weigh(self, device: Device) -> Trial:
        scale = self._peripherals.get(device.id)
        if scale is None:
            raise _not_in_use()
        async with scale.lock:
            answer = await cast("Scale", scale.face).weigh()
        if isinstance(answer, Weight):
            return Trial("weight", True, grams=answer.grams)
        # A scale that says why it has no weight is well; one that says nothing is not.
        silent = answer.reason in ("no_answer", "unreachable")
        return Trial("no_weight", not silent, answer.remedy)

    async def _scan(self, device: Device) -> Trial:
        self._running(device)
        awaited: asyncio.Future[Scan] = asyncio.get_running_loop().create_future()
        waiting = self._awaited.setdefault(device.id, [])
        waiting.append(awaited)
        try:
            async with self._clock.timeout(SCAN_WAIT_S):
                scan = await awaited
        except TimeoutError:
            return Trial("no_scan", False, "Scan a code with this scanner; check its cable and its settings.")
        finally:
            waiting.remove(awaited)
        return Trial("scanned", True, symbology=scan.symbology, characters=len(scan.text))

    def _scanned(self, device_id: str, scan: Scan) -> None:
        for awaited in self._awaited.get(device_id, []):
            if not awaited.done():
                awaited.set_result(scan)


def trial_page(device: Device, caller: Caller) -> PrintDocument:
    """Accents, the euro, two sides of a line and a code: what goes wrong when a printer is wrongly set up."""
    language = caller.language[:2]
    no_receipt = NOT_A_RECEIPT.get(language, NOT_A_RECEIPT["en"])
    items = (
        Text(TEST_WORD, Align.CENTER, bold=True, large=True),
        Text(no_receipt, Align.CENTER),
        Rule(),
        Text(device.name),
        Text(ACCENTS),
        Row("0123456789", "€ 12,34"),
        Qr("hubd test"),
        Text(TEST_WORD, Align.CENTER, bold=True),
        Cut(),
    )
    return PrintDocument(f"{TEST_WORD} {device.name}", items, language)


def _cannot_show_itself() -> DeviceError:
    return DeviceError(
        "device.cannot_show_itself",
        "The hub cannot make this kind of device show itself.",
        remedy="Compare its number, its address or its plug with what the list of devices says.",
    )


def _busy() -> DeviceError:
    return DeviceError(
        "device.busy",
        "The terminal is in the middle of another dialogue.",
        remedy="Wait until nobody pays at it, then try again.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=10,
    )


def _not_shown(reason: str) -> DeviceError:
    if reason in ("terminal_busy", "card_inserted"):
        return _busy()
    if reason in ("no_answer", "hung_up", "closed"):
        return DeviceError(
            "device.no_answer",
            "The device does not answer.",
            remedy="Look at it; check its power and its cable or network.",
            retry=Retry.SAME_REQUEST,
        )
    return _cannot_show_itself()


def _not_in_use() -> DeviceError:
    return DeviceError(
        "device.gone",
        "The device is not in use here.",
        remedy="Activate it, or look at the devices for what is wrong.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=10,
    )
