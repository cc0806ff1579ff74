"""Print jobs that come over the shop's network as to any network printer: raw on port 9100, or by IPP.

Neither proves who sends. So nothing listens unless the configuration names a printer; each queue is bound to that one
printer; and a job is taken only from addresses that are listed, or from which a paired till has called the API of
late (ADR 22). A job is checked for card numbers before anything of it is written.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections import deque
from typing import cast

from msgspec import Struct

from hubd.config import PAIRED
from hubd.errors import AccessError, InvalidValueError, PrintError, Retry
from hubd.health import Problems
from hubd.model.card_data import card_data_refused, holds_card_data
from hubd.model.device import Capability, DeviceKind, DeviceState
from hubd.model.escpos_stream import text_of, unread_text_of
from hubd.model.permissions import Permission
from hubd.model.print_job import PrintJob
from hubd.model.printing import Cut, Item, PrintDocument, Text, pack_raw
from hubd.ports import Printer, PrinterCondition
from hubd.runtime import Runtime
from hubd.services.access import AccessDesk, Caller
from hubd.services.peripherals import Peripheral, Peripherals
from hubd.services.printing import SPOOLED_BYTES_MAX, PrintDesk, PrintRequest, Submitted

log = logging.getLogger(__name__)

JOBS_PER_MINUTE_MAX = 120
TEXT_CHARS_MAX = 64 * 1024
"""That can be read on one job: a receipt has a twentieth of it, and the search for card numbers takes time."""
STRANGERS_TOLD_MAX = 64
"""Addresses whose refusal the log is told of, once each."""
_WEB = re.compile(rb"(?:GET|HEAD|POST|PUT|OPTIONS|DELETE|PATCH|CONNECT) [^\r\n]* HTTP/1")
"""What a page in a till's browser could send to the port."""
TITLE = "Printed over the network"
"""Of every such job: the names that programs give theirs may name people, and a title stands in the journal."""


class Queue(Struct, frozen=True):
    """One printer as the network sees it."""

    printer: str
    """Device id, role or name of the printer."""
    name: str = ""
    """In the address of its IPP queue."""
    raw_port: int = 0
    allow: tuple[str, ...] = (PAIRED,)
    language: str = "en"
    """Of the word COPY, where the till is not paired and has none of its own."""


class PrinterState(Struct, frozen=True):
    """What is known of a queue's printer now."""

    state: DeviceState
    problem: str
    condition: PrinterCondition

    @property
    def works(self) -> bool:
        """Whether it prints what it is given now."""
        return self.state in (DeviceState.READY, DeviceState.BUSY)


class SpoolDesk:
    """Lets jobs of the network in, and says how their printers are."""

    def __init__(
        self,
        runtime: Runtime,
        access: AccessDesk,
        peripherals: Peripherals,
        printing: PrintDesk,
        problems: Problems,
    ) -> None:
        self._ids = runtime.ids
        self._clock = runtime.clock
        self._access = access
        self._peripherals = peripherals
        self._printing = printing
        self._problems = problems
        self._jobs: dict[str, deque[float]] = {}
        """By address, when its latest jobs came."""
        self._strangers: set[str] = set()

    async def admit(self, queue: Queue, address: str) -> Caller:
        """The caller that a peer at this address is. Raises `access.not_allowed`, `no_printer`."""
        paired = await self._access.till_at(address) if PAIRED in queue.allow else None
        if paired is None and not _listed(queue.allow, address):
            if address not in self._strangers and len(self._strangers) < STRANGERS_TOLD_MAX:
                self._strangers.add(address)
                log.warning("spool.not_allowed", extra={"address": address, "detail": queue.printer})
            raise AccessError(
                "access.not_allowed",
                "No till is known at this address.",
                remedy="Pair the till, or list its address under spools in the configuration.",
            )
        printer = self._printer(queue)
        permissions = frozenset({Permission.PRINT})
        if paired is None:
            return Caller("", None, printer.location, permissions, queue.language)
        return Caller(paired.id, None, printer.location, permissions, paired.language)

    def state(self, queue: Queue) -> PrinterState:
        """How the queue's printer is; one that is not in use is gone."""
        found = self._find(queue)
        if found is None:
            return PrinterState(DeviceState.GONE, "", PrinterCondition())
        status = found.face.status
        return PrinterState(status.state, status.problem, cast("Printer", found.face).condition)

    def printer_id(self, queue: Queue) -> str:
        """The device that it prints on; empty while there is none."""
        found = self._find(queue)
        return found.id if found else ""

    async def raw(self, queue: Queue, data: bytes, caller: Caller, address: str, job_id: str = "") -> Submitted:
        """Take a job of ESC/POS bytes; durable on return. What is refused was never written, not even in part.

        Raises `card_data_refused`, `not_a_print_job`, `print_too_long`, `print_too_fast`, and as `PrintDesk.submit`.
        """
        if _WEB.match(data):
            raise InvalidValueError(
                "not_a_print_job", "A web page has sent this, not a till.", remedy="Print with a printer's driver."
            )
        if Capability.PRINT_RAW not in self._printer(queue).face.capabilities:
            raise PrintError(
                "print_format_unknown",
                "This printer does not take ESC/POS.",
                remedy="Send text or a picture by IPP, or print elsewhere.",
            )
        text = await asyncio.to_thread(text_of, data)
        if await asyncio.to_thread(lambda: len(text) <= TEXT_CHARS_MAX and holds_card_data(unread_text_of(data))):
            raise card_data_refused()
        item = await asyncio.to_thread(pack_raw, data)
        return await self._submit(queue, (item,), text, caller, address, job_id)

    async def text(self, queue: Queue, text: str, caller: Caller, address: str, job_id: str = "") -> Submitted:
        """Take a job of plain text; a form feed cuts the paper, and so does its end. As `raw`."""
        pages = text.rstrip("\f\n").split("\f")
        items = [item for page in pages for item in (Text(page.strip("\r\n")), Cut())]
        return await self._submit(queue, tuple(items), text, caller, address, job_id)

    async def picture(
        self, queue: Queue, items: tuple[Item, ...], caller: Caller, address: str, job_id: str = ""
    ) -> Submitted:
        """Take a job of pictures, in which nobody can read what they show. As `raw`."""
        return await self._submit(queue, items, "", caller, address, job_id)

    async def _submit(
        self, queue: Queue, items: tuple[Item, ...], text: str, caller: Caller, address: str, job_id: str
    ) -> Submitted:
        self._count(address)
        if len(text) > TEXT_CHARS_MAX:
            raise InvalidValueError(
                "print_too_long",
                f"A print job has at most {TEXT_CHARS_MAX} characters.",
                remedy="Send it in several jobs.",
            )
        if await asyncio.to_thread(holds_card_data, text):
            raise card_data_refused()
        printer = self._printer(queue)
        document = PrintDocument(TITLE, items, caller.language)
        request = PrintRequest(job_id or self._ids.new_id(), document, printer.id, bytes_max=SPOOLED_BYTES_MAX)
        submitted = await self._printing.submit(request, caller)
        self._problems.clear("print.refused", printer.id)
        log.info("spool.accepted", extra={"device_id": printer.id, "till_id": caller.device, "address": address})
        return submitted

    def refused(self, queue: Queue, address: str, reason: str) -> None:
        """Say that a job of an allowed peer was not taken; nothing of what it held is said."""
        printer = self._find(queue)
        device_id = printer.id if printer else ""
        log.warning("spool.refused", extra={"device_id": device_id, "address": address, "reason": reason})
        self._problems.raise_(
            "print.refused", device_id, name=printer.name if printer else queue.printer, reason=reason
        )

    async def jobs(self, queue: Queue, limit: int) -> list[PrintJob]:
        """The newest jobs of the queue's printer, whoever sent them, newest first."""
        return await self._printing.of_printer(self.printer_id(queue), limit)

    def _count(self, address: str) -> None:
        now = self._clock.monotonic()
        recent = self._jobs.setdefault(address, deque())
        while recent and recent[0] < now - 60:
            recent.popleft()
        if len(recent) >= JOBS_PER_MINUTE_MAX:
            raise PrintError(
                "print_too_fast",
                f"More than {JOBS_PER_MINUTE_MAX} print jobs came from one device within a minute.",
                remedy="See what the till prints again and again.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=60,
            )
        recent.append(now)

    def _find(self, queue: Queue) -> Peripheral | None:
        printers = self._peripherals.all(DeviceKind.PRINTER)
        for field in ("id", "role", "name"):
            found = [one for one in printers if getattr(one, field) == queue.printer]
            if found:
                return found[0] if len(found) == 1 else None  # two of one name: nobody knows which is meant
        return None

    def _printer(self, queue: Queue) -> Peripheral:
        found = self._find(queue)
        if found is None:
            raise PrintError(
                "no_printer",
                "The queue's printer is not in use.",
                remedy="Use it on the page of devices, by this name.",
            )
        return found


def _listed(allow: tuple[str, ...], address: str) -> bool:
    place = ipaddress.ip_address(address)
    return any(place in ipaddress.ip_network(one, strict=False) for one in allow if one != PAIRED)
