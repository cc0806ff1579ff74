"""Print jobs: asked for with an id of the caller's, kept in the journal, printed once by the right printer.

The intent is on disk before a byte leaves, so a power cut in mid-paper leaves a job of which nobody knows whether it is
out: it is shown, and printed again only when somebody asks, with COPY on it (design 9).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import msgspec
from msgspec import Struct

from hubd.errors import HubError, InvalidValueError, NotFoundError, PrintError, Retry, StoreError
from hubd.health import Problems
from hubd.model.device import Capability, DeviceKind, DeviceState
from hubd.model.entry import Accepted, Document, Draft, Json
from hubd.model.permissions import Permission
from hubd.model.print_job import PrintEvent, PrintJob, PrintState
from hubd.model.printing import PrintDocument, Raw
from hubd.ports import Displaying, NotPrinted, Printed, Printer
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.services.jobs import Jobs
from hubd.services.peripherals import Peripheral, Peripherals
from hubd.services.receipt_paper import MERCHANT, marked
from hubd.store import devices, documents, journal, print_jobs
from hubd.store.db import Database
from hubd.store.tx import Connection, Tx

log = logging.getLogger(__name__)

DOCUMENT_CLASS = "print_content"
DOCUMENT_BYTES_MAX = 64 * 1024
SPOOLED_BYTES_MAX = 256 * 1024
"""Of a job that came over the network, as the journal keeps it: what other people's programs print has pictures."""
WAITING_MAX = 500
"""Jobs that may wait for one printer; what comes then is refused, and nothing that was accepted is lost."""
_PRINTABLE = frozenset({DeviceState.READY, DeviceState.FAULTY})
"""States in which a printer is tried: one with a fault says itself what is wrong, before the first byte."""

STORE_RETRY_S = 5.0
DISPLAY_WAIT_S = 2.0
"""How long rows for a display wait for what the printer is doing: later they would tell a price that is over."""
T = TypeVar("T")
MakeDocument = Callable[[str, bytes], Document]


class PrintRequest(Struct, frozen=True):
    """What a caller wants on paper."""

    id: str
    document: PrintDocument
    printer: str = ""
    """Device id; empty: the printer of the caller's till, else one of its location."""
    payment: str = ""
    """Whose receipt it is. The same id again is then the same job, whatever has become of the payment since."""
    purpose: str = ""
    """`customer` or `merchant` for a receipt: each is original once, and every further paper of it is a copy."""
    bytes_max: int = DOCUMENT_BYTES_MAX


class Submitted(Struct, frozen=True):
    """Answer to a request."""

    job: PrintJob
    accepted: Accepted
    created: bool


class Origin(Struct, frozen=True):
    """Who wants a paper."""

    device: str
    staff: str | None
    actor: str


class PrintDesk:
    """Takes jobs, prints them, and says of each what is known."""

    def __init__(
        self,
        db: Database,
        runtime: Runtime,
        peripherals: Peripherals,
        jobs: Jobs,
        problems: Problems,
        make_document: MakeDocument,
    ) -> None:
        self._db = db
        self._clock = runtime.clock
        self._peripherals = peripherals
        self._jobs = jobs
        self._problems = problems
        self._make_document = make_document
        self._states: dict[str, DeviceState] = {}
        self._shown: set[str] = set()
        """Printers of which something may stand among the problems."""
        self._wanted: set[str] = set()
        """Printers for which there may be something to do."""
        peripherals.watch(self._changed)

    async def recover(self) -> None:
        """Called at the start, before anything is printed: what was being printed may be out, in part or in full."""

        def work(tx: Tx) -> None:
            for job in print_jobs.open_jobs(tx.connection):
                if job.state is PrintState.PRINTING:
                    _append(tx, job, PrintEvent.UNKNOWN, "hub", reason="hub_stopped")

        await self._db.write("print.recover", work)
        await self._show()

    # -- what callers ask ----------------------------------------------------------------------------------------------

    async def submit(self, request: PrintRequest, caller: Caller) -> Submitted:
        """Take a job; durable on return. The same id again gives the same job, with other content `id_conflict`.

        Raises `printer_unknown`, `no_printer`, `print_queue_full`, `print_too_long`.
        """
        caller.need(Permission.PRINT)
        content = msgspec.json.encode(request.document)
        if len(content) > request.bytes_max:
            raise InvalidValueError(
                "print_too_long",
                f"A print job has at most {request.bytes_max} bytes.",
                remedy="Send it in several jobs.",
            )
        document = self._make_document(DOCUMENT_CLASS, content)

        def work(tx: Tx) -> Submitted:
            existing = print_jobs.get(tx.connection, request.id)
            if existing is not None:
                known = documents.get(tx.connection, existing.document)
                other = not request.payment and known is not None and known.content != content
                if other or (existing.payment, existing.purpose) != (request.payment, request.purpose):
                    raise PrintError(
                        "id_conflict",
                        "This id belongs to another print job.",
                        remedy="Make a new id for what is to be printed now.",
                        retry=Retry.NEW_ID,
                    )
                return Submitted(existing, existing.accepted, created=False)
            printer = self._printer_for(request, caller)
            if len(print_jobs.open_jobs(tx.connection, printer.id)) >= WAITING_MAX:
                raise PrintError(
                    "print_queue_full",
                    f"{WAITING_MAX} jobs wait for {printer.name}.",
                    remedy="See to the printer, or print elsewhere.",
                    retry=Retry.SAME_REQUEST,
                    retry_after_s=60,
                )
            job = _requested(tx, request, printer, document, Origin(caller.device, caller.staff, caller.actor))
            return Submitted(job, job.accepted, created=True)

        submitted = await self._db.write("print.submit", work)
        self._work(submitted.job.printer)
        return submitted

    def add(self, tx: Tx, request: PrintRequest, printer: Peripheral, origin: Origin) -> None:
        """Write a job inside a transaction of another service; printed once that has called `begin`.

        Nothing happens if the job is there already. Where the printer has too many waiting the job is left out: what is
        printed without being asked for must not stop what it follows from.
        """
        if print_jobs.get(tx.connection, request.id) is not None:
            return
        if len(print_jobs.open_jobs(tx.connection, printer.id)) >= WAITING_MAX:
            log.warning("print.outcome", extra={"device_id": printer.id, "result": "left_out", "reason": "queue_full"})
            return
        document = self._make_document(DOCUMENT_CLASS, msgspec.json.encode(request.document))
        _requested(tx, request, printer, document, origin)

    def begin(self, printer: str) -> None:
        """Print what waits for this printer. A start of the hub does the same for all of them."""
        self._work(printer)

    async def get(self, job_id: str, caller: Caller) -> PrintJob:
        """The job as it is now. Raises `print_job_unknown`, `access.not_allowed` for another location's."""
        return await self._db.read("print.get", lambda connection: _need_for(connection, job_id, caller))

    async def content(self, job_id: str, caller: Caller) -> PrintDocument:
        """What a job prints, to look at; marked as a copy where it is, or may be, on paper already.

        Raises as `get` does, and `print_content_erased`.
        """

        def look(connection: Connection) -> PrintDocument:
            job = _need_for(connection, job_id, caller)
            document = documents.get(connection, job.document)
            if document is None:
                raise _content_erased()
            papers = _papers_of(connection, job)
            return marked(msgspec.json.decode(document.content, type=PrintDocument), papers + 1)

        return await self._db.read("print.content", look)

    async def page(self, before_seq: int | None, limit: int, caller: Caller) -> list[PrintJob]:
        """Newest first, below `before_seq`; of the locations where the caller may print."""
        places = caller.locations_of(Permission.PRINT)
        return await self._db.read("print.page", lambda c: print_jobs.page(c, before_seq, limit, places))

    async def waiting(self, printer: str) -> int:
        """How many jobs of a printer are not out, or may not be."""
        return len(await self._db.read("print.waiting", lambda c: print_jobs.open_jobs(c, printer)))

    async def of_printer(self, printer: str, limit: int) -> list[PrintJob]:
        """The newest jobs of a printer, for whoever was let in to it; newest first."""
        return await self._db.read("print.of_printer", lambda c: print_jobs.of_printer(c, printer, limit))

    async def again(self, job_id: str, printer: str, caller: Caller) -> PrintJob:
        """Print a job once more, at another printer if one is named; it says COPY if it is, or may be, out already."""

        def work(tx: Tx) -> PrintJob:
            job = _need_for(tx.connection, job_id, caller)
            known = documents.get(tx.connection, job.document)
            if known is None:
                raise _content_erased()
            stand_in = self._peripherals.in_place_of(job.printer)
            chosen = self._named(printer, caller).id if printer else stand_in.id if stand_in else job.printer
            self._check_format(chosen, known.content)
            _append(tx, job, PrintEvent.AGAIN, caller.actor, printer=chosen)
            return _need(tx, job_id)

        job = await self._db.write("print.again", work)
        self._work(job.printer)
        await self._show()
        return job

    async def cancel(self, job_id: str, caller: Caller) -> PrintJob:
        """Give up a job that waits, or of which nobody knows whether it is out."""

        def work(tx: Tx) -> PrintJob:
            job = _need_for(tx.connection, job_id, caller)
            if job.state is not PrintState.CANCELLED:
                _append(tx, job, PrintEvent.CANCELLED, caller.actor)
            return _need(tx, job_id)

        job = await self._db.write("print.cancel", work)
        await self._show()
        return job

    async def open_drawer(self, printer: str, caller: Caller) -> None:
        """Open the drawer at a printer. Raises `drawer_not_opened` with the printer's reason."""
        chosen = self._named(printer, caller)
        async with chosen.lock:
            outcome = await cast("Printer", chosen.face).open_drawer()
        if not isinstance(outcome, Printed):
            raise PrintError(
                "drawer_not_opened",
                "The drawer did not open, or did not say so.",
                remedy=getattr(outcome, "remedy", "") or "Look at printer and drawer.",
                params={"reason": outcome.reason},
            )

    async def display(self, printer: str, rows: tuple[str, ...], caller: Caller) -> None:
        """Show two rows on the line display at a printer, or clear it. Nothing of it is stored, and nothing waits.

        Raises `no_line_display`, and `display_not_shown` with the reason: `busy` while it prints, or the printer's own.
        """
        chosen = self._named(printer, caller)
        if Capability.LINE_DISPLAY not in chosen.face.capabilities:
            raise PrintError(
                "no_line_display",
                "No line display hangs on this printer, as far as the hub knows.",
                remedy="Where one does, write display=2x20 into the printer's options.",
            )
        try:
            async with self._clock.timeout(DISPLAY_WAIT_S):
                await chosen.lock.acquire()
        except TimeoutError:
            raise _not_shown("busy", "Show it again when the paper is out.") from None
        try:
            outcome = await cast("Displaying", chosen.face).display(rows)
        finally:
            chosen.lock.release()
        if not isinstance(outcome, Printed):
            raise _not_shown(outcome.reason, getattr(outcome, "remedy", ""))

    # -- printing ------------------------------------------------------------------------------------------------------

    def _changed(self, device_id: str) -> None:
        peripheral = self._peripherals.get(device_id)
        if peripheral is None or peripheral.kind is not DeviceKind.PRINTER:
            self._states.pop(device_id, None)
            return
        state, before = peripheral.face.status.state, self._states.get(device_id)
        self._states[device_id] = state
        if state is DeviceState.READY and before is not state:
            self._work(device_id)

    def _work(self, printer: str) -> None:
        self._wanted.add(printer)
        self._jobs.start(f"print:{printer}", self._drain(printer))

    async def _drain(self, printer: str) -> None:
        """Print what waits for one printer, in order, until it cannot."""
        while printer in self._wanted:
            self._wanted.discard(printer)
            while await self._print_next(printer):
                pass
            await self._show()

    async def _print_next(self, printer: str) -> bool:
        """Print the oldest job; False when there is none, or the printer cannot now."""
        peripheral = self._peripherals.get(printer)
        if peripheral is None:
            return False
        async with peripheral.lock:  # inside, nothing else of ours makes it busy
            if peripheral.face.status.state not in _PRINTABLE:
                return False
            takes_raw = Capability.PRINT_RAW in peripheral.face.capabilities
            begun = await self._write("print.start", partial(_start_next, printer=printer, takes_raw=takes_raw))
            if begun is None:
                return False
            job, document, papers = begun
            outcome = await cast("Printer", peripheral.face).print(marked(document, papers))
            event, reason = PrintEvent.UNKNOWN, getattr(outcome, "reason", "")
            if isinstance(outcome, Printed):
                event = PrintEvent.PRINTED
            elif isinstance(outcome, NotPrinted):
                event = PrintEvent.POSTPONED
            heir = await self._write("print.outcome", partial(_note_outcome, job_id=job.id, event=event, reason=reason))
        if heir:
            self._work(heir)
        log.info("print.outcome", extra={"device_id": printer, "result": event.value, "reason": reason})
        return event is not PrintEvent.POSTPONED

    async def _write(self, name: str, work: Callable[[Tx], T]) -> T:
        """Write, and wait while the disk is full: what is on paper has to be said. Raises when the store closes."""
        while True:
            try:
                return await self._db.write(name, work)
            except StoreError as exc:
                if exc.code == "store.closed":
                    raise
                log.warning("print.waits_for_disk", extra={"code": exc.code})
                await self._clock.sleep(STORE_RETRY_S)

    async def replaced(self, printer: str, stand_in: str) -> None:
        """A printer's place was taken and `move_waiting` written: what waited for it is the other one's to print."""
        self._work(stand_in)
        self._shown.add(printer)
        await self._show()

    async def _show(self) -> None:
        """What waits or is not known is a problem of its printer."""
        waiting = await self._db.read("print.open", lambda connection: print_jobs.open_jobs(connection))
        by_printer: dict[str, list[PrintJob]] = {}
        for job in waiting:
            by_printer.setdefault(job.printer, []).append(job)
        self._shown |= {*by_printer, *(one.id for one in self._peripherals.all(DeviceKind.PRINTER))}
        for printer in self._shown:
            jobs = by_printer.get(printer, [])
            known = self._peripherals.get(printer)
            name = known.name if known else printer
            lost = sum(job.state is PrintState.UNKNOWN for job in jobs)
            late = len(jobs) - lost
            self._problems.set(lost > 0, "print.unknown", printer, name=name, count=lost)
            self._problems.set(late > 0, "print.waiting", printer, name=name, count=late)
            owed = sum(job.purpose == MERCHANT for job in jobs)
            self._problems.set(owed > 0, "receipt_pending", printer, name=name, count=owed)

    # -- which printer -------------------------------------------------------------------------------------------------

    def _printer_for(self, request: PrintRequest, caller: Caller) -> Peripheral:
        return self._named(request.printer, caller) if request.printer else self._printer_of(caller)

    def _named(self, printer: str, caller: Caller) -> Peripheral:
        found = self._peripherals.in_place_of(printer)
        if found is None or found.kind is not DeviceKind.PRINTER:
            raise NotFoundError(
                "printer_unknown", "No printer of this id is in use.", remedy="Read the list of devices."
            )
        caller.need_at(Permission.PRINT, found.location)
        return found

    def _printer_of(self, caller: Caller) -> Peripheral:
        found = self._peripherals.choose(DeviceKind.PRINTER, caller.device, caller.location)
        if found is None:
            raise PrintError(
                "no_printer",
                "This location has no printer in use.",
                remedy="Plug one in and use it on the page of devices.",
            )
        return found

    def _check_format(self, printer: str, content: bytes) -> None:
        """Refuse a job of ESC/POS bytes for a printer that does not take them."""
        found = self._peripherals.get(printer)
        if found is None or Capability.PRINT_RAW in found.face.capabilities:
            return
        if _is_raw(msgspec.json.decode(content, type=PrintDocument)):
            raise PrintError(
                "print_format_unknown",
                "This printer does not take ESC/POS.",
                remedy="Print the job at the printer that it was made for, or at another one that takes ESC/POS.",
            )


def _is_raw(document: PrintDocument) -> bool:
    return any(isinstance(item, Raw) for item in document.items)


def _requested(tx: Tx, request: PrintRequest, printer: Peripheral, document: Document, origin: Origin) -> PrintJob:
    body = {
        "device": origin.device,
        "document": document.id.hex(),
        "location": printer.location,
        "payment": request.payment,
        "printer": printer.id,
        "purpose": request.purpose,
        "staff": origin.staff,
        "title": request.document.title,
    }
    journal.append(tx, Draft("print.requested", request.id, origin.actor, body, documents=(document,)))
    return _need(tx, request.id)


def _start_next(tx: Tx, printer: str, *, takes_raw: bool) -> tuple[PrintJob, PrintDocument, int] | None:
    """The job that is begun, what it prints, and the how manieth paper of that it will be.

    A job of ESC/POS bytes that waits for a printer of another kind, which has taken its printer's place, is given up.
    """
    for job in print_jobs.open_jobs(tx.connection, printer):
        if job.state is not PrintState.WAITING:
            continue
        document = documents.get(tx.connection, job.document)
        if document is None:
            _append(tx, job, PrintEvent.CANCELLED, "hub", reason="content_erased")
            continue
        content = msgspec.json.decode(document.content, type=PrintDocument)
        if _is_raw(content) and not takes_raw:
            _append(tx, job, PrintEvent.CANCELLED, "hub", reason="print_format_unknown")
            continue
        _append(tx, job, PrintEvent.STARTED, "hub")
        begun = _need(tx, job.id)
        return begun, content, _papers_of(tx.connection, begun)
    return None


def _note_outcome(tx: Tx, job_id: str, event: PrintEvent, reason: str) -> str:
    """Write what became of a job; one that still waits goes on to whoever has its printer's place: returns that one."""
    _append(tx, _need(tx, job_id), event, "hub", reason=reason)
    job = _need(tx, job_id)
    heir = devices.successor(tx.connection, job.printer) if event is PrintEvent.POSTPONED else ""
    if heir:
        _append(tx, job, PrintEvent.MOVED, "hub", printer=heir)
    return heir


def move_waiting(tx: Tx, printer: str, stand_in: str, actor: str) -> int:
    """Give all jobs that wait for one printer to another; returns how many. One that may be on paper stays unknown."""
    waiting = [job for job in print_jobs.open_jobs(tx.connection, printer) if job.state is PrintState.WAITING]
    for job in waiting:
        _append(tx, job, PrintEvent.MOVED, actor, printer=stand_in)
    return len(waiting)


def _append(tx: Tx, job: PrintJob, event: PrintEvent, actor: str, **body: Json) -> None:
    journal.append(tx, Draft(f"print.{event}", job.id, actor, {"reason": "", **body}))


def _need(tx: Tx, job_id: str) -> PrintJob:
    job = print_jobs.get(tx.connection, job_id)
    assert job is not None, "a row never disappears"
    return job


def _need_for(connection: Connection, job_id: str, caller: Caller) -> PrintJob:
    job = print_jobs.get(connection, job_id)
    if job is None:
        raise _unknown_job()
    caller.need_at(Permission.PRINT, job.location)
    return job


def _papers_of(connection: Connection, job: PrintJob) -> int:
    """How many papers there are, or may be, of what it prints."""
    return print_jobs.papers_of(connection, job.payment, job.purpose) if job.payment else job.papers


def _content_erased() -> PrintError:
    return PrintError(
        "print_content_erased", "What this job printed was erased.", remedy="Make a new job of the receipt."
    )


def _unknown_job() -> HubError:
    return NotFoundError("print_job_unknown", "No print job of this id is known to this hub.", remedy="Send it first.")


def _not_shown(reason: str, remedy: str) -> PrintError:
    return PrintError(
        "display_not_shown",
        "The line display does not show it.",
        remedy=remedy or "Look at printer and display.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=2,
        params={"reason": reason},
    )
