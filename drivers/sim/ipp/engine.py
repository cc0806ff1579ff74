"""The printer itself: a queue of jobs, a mechanism, paper and a cover, spoken to in IPP. No transport, no own time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from drivers.ipp_codec import (
    CONTENT_TYPE,
    JobState,
    Message,
    Operation,
    PrinterState,
    decode,
    encode,
    number,
    words,
)
from drivers.sim.faults import FaultyStream, LineFaults
from drivers.sim.http_server import BadRequestError, HttpRequest, ServerLine
from drivers.sim.peripheral import PeripheralSimulator
from hubd.model.ipp import Attribute, IppFormatError, Tag, Value, attribute
from hubd.runtime import Runtime

DOCUMENT_BYTES_MAX = 8 * 1024 * 1024
JOBS_MAX = 500
"""Remembered; older ones are forgotten."""
FORM_FEED = "\f"
OK, BAD_REQUEST, NOT_FOUND, FORMAT_UNKNOWN, OPERATION_UNKNOWN = 0x0000, 0x0400, 0x0406, 0x040A, 0x0501
Group = tuple[Tag, list[Attribute]]
_HEAD = [
    attribute("attributes-charset", Tag.CHARSET, "utf-8"),
    attribute("attributes-natural-language", Tag.LANGUAGE, "en"),
]
ENDED = (JobState.CANCELED, JobState.ABORTED, JobState.COMPLETED)


@dataclass(frozen=True, slots=True)
class IppOptions:
    """What kind of printer it is."""

    formats: tuple[str, ...] = ("application/pdf", "text/plain;charset=utf-8", "text/plain")
    media: str = "iso_a4_210x297mm"
    uuid: str = "6c1c0f5e-2f47-4b4a-9d35-4f6b0e0a1201"
    paper_lines: int = 4000
    """Lines of plain text that its paper holds."""
    near_end_lines: int = 100
    line_s: float = 0.0
    """Seconds that one line takes."""


@dataclass(slots=True)
class IppFaults(LineFaults):
    """What can be wrong beside the line."""

    http_status: int = 0
    """Answer everything with this instead."""
    refuse_status: int = 0
    """Take no document, and say so with this status of IPP."""
    forgets: bool = False
    """A job that has ended, or was never begun, is not listed any more."""
    abort_jobs: bool = False
    """Whatever it is given, it gives up."""
    wrong_request_id: bool = False


@dataclass(slots=True)
class SheetLine:
    """One line on the paper."""

    text: str

    def plain(self, columns: int) -> str:
        """As it stands; text comes already set."""
        return self.text.rstrip()[:columns]


@dataclass(slots=True)
class Sheet:
    """What lies between two ends of page."""

    lines: list[SheetLine] = field(default_factory=list)
    cut: bool = False


@dataclass(slots=True)
class Job:
    """A job of its queue."""

    id: int
    name: str
    format: str
    document: bytes
    state: JobState = JobState.PENDING
    done_lines: int = 0


class IppSimulator(PeripheralSimulator):
    """One printer for many hosts. What it has taken is printed although the line is lost."""

    commands = "jobs, documents, paper, cover, pause, jam, power_cut"
    faults: IppFaults

    def __init__(self, runtime: Runtime, options: IppOptions | None = None) -> None:
        super().__init__(runtime)
        self.faults = IppFaults()
        self.options = options or IppOptions()
        self.jobs: list[Job] = []
        self.receipts: list[Sheet] = [Sheet()]
        """What it has printed of plain text; the last one is not ended."""
        self.requests: list[int] = []
        """Operations that it was asked for."""
        self.uris: set[str] = set()
        """By which it was asked."""
        self.paper_lines = self.options.paper_lines
        self.cover_open = self.paused = self.jammed = False
        self._next_id = 1
        self._news = asyncio.Event()
        self._mechanism = asyncio.Lock()

    # -- the line ------------------------------------------------------------------------------------------------------

    async def talk(self, stream: FaultyStream) -> None:
        """Answer on one line until it is lost."""
        line = ServerLine(stream, DOCUMENT_BYTES_MAX)
        async with asyncio.TaskGroup() as group:
            group.create_task(line.pump(), name="ipp-simulator:pump")
            group.create_task(self._work(line), name="ipp-simulator:mechanism")
            try:
                await self._answer_all(line)
            except (OSError, BadRequestError):
                pass  # the line is lost; what has arrived is printed
            finally:
                await line.close()
                self._news.set()

    async def _answer_all(self, line: ServerLine) -> None:
        while line.may_go_on and (request := await line.request()):
            status, answer = self._answer(request)
            await line.respond(status, answer, content_type=CONTENT_TYPE)

    def _answer(self, request: HttpRequest) -> tuple[int, bytes]:
        if self.faults.http_status:
            return self.faults.http_status, b""
        if request.method != "POST":
            return 405, b""
        try:
            asked = decode(request.body)
        except IppFormatError:
            return 400, b""
        self.requests.append(asked.code)
        self.uris.update(words(asked.group(Tag.OPERATION), "printer-uri"))
        status, groups = self._obeyed(asked) if "printer-uri" in asked.group(Tag.OPERATION) else (BAD_REQUEST, [])
        request_id = asked.request_id + self.faults.wrong_request_id
        said = [with_leak(group, self.faults.leak) for group in [(Tag.OPERATION, _HEAD), *groups]]
        return 200, encode(status, request_id, said, version=asked.version)

    def _obeyed(self, asked: Message) -> tuple[int, list[Group]]:
        about = asked.group(Tag.OPERATION)
        match asked.code:
            case Operation.GET_PRINTER_ATTRIBUTES:
                return OK, [(Tag.PRINTER, self._printer())]
            case Operation.PRINT_JOB:
                return self._take(asked)
            case Operation.GET_JOB_ATTRIBUTES:
                found = [_job(job) for job in self._remembered() if job.id == number(about, "job-id")]
                return OK if found else NOT_FOUND, found
            case Operation.GET_JOBS:
                done = "completed" in words(about, "which-jobs")
                return OK, [_job(job) for job in reversed(self._remembered()) if (job.state in ENDED) is done]
        return OPERATION_UNKNOWN, []

    def _remembered(self) -> list[Job]:
        if not self.faults.forgets:
            return self.jobs
        return [job for job in self.jobs if job.state in (JobState.PROCESSING, JobState.STOPPED)]

    def _take(self, asked: Message) -> tuple[int, list[Group]]:
        about = asked.group(Tag.OPERATION)
        named = next(iter(words(about, "document-format")), "")
        if named not in self.options.formats:
            return FORMAT_UNKNOWN, []
        if self.faults.refuse_status:
            return self.faults.refuse_status, []
        job = Job(self._next_id, next(iter(words(about, "job-name")), ""), named, asked.document)
        self._next_id += 1
        self.jobs = [*self.jobs, job][-JOBS_MAX:]
        self._news.set()
        return OK, [_job(job)]

    # -- what it says of itself ----------------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether it cannot print; what it has taken waits."""
        return self.paper_lines <= 0 or self.cover_open or self.paused or self.jammed

    def _printer(self) -> list[Attribute]:
        printing = any(job.state is JobState.PROCESSING for job in self.jobs)
        state = PrinterState.PROCESSING if printing else PrinterState.IDLE
        return [
            attribute("printer-uuid", Tag.URI, f"urn:uuid:{self.options.uuid}"),
            attribute("printer-make-and-model", Tag.TEXT, "hubd simulated printer"),
            attribute("printer-state", Tag.ENUM, PrinterState.STOPPED if self.stopped else state),
            attribute("printer-state-reasons", Tag.KEYWORD, *(tuple(self._reasons()) or ("none",))),
            attribute("printer-is-accepting-jobs", Tag.BOOLEAN, True),
            attribute("document-format-supported", Tag.MIME, *self.options.formats),
            attribute("operations-supported", Tag.ENUM, *Operation),
            attribute("media-default", Tag.KEYWORD, self.options.media),
        ]

    def _reasons(self) -> Iterable[str]:
        if self.paper_lines <= 0:
            yield "media-empty-error"
        elif self.paper_lines <= self.options.near_end_lines:
            yield "media-low"
        if self.cover_open:
            yield "cover-open"
        if self.paused:
            yield "paused"
        if self.jammed:
            yield "media-jam-error"

    # -- the mechanism -------------------------------------------------------------------------------------------------

    async def _work(self, line: ServerLine) -> None:
        """Print what comes until this line is lost, and then what there still is."""
        async with self._mechanism:
            while True:
                job = next((job for job in self.jobs if job.state not in ENDED), None)
                if job is None or self.stopped:
                    if line.lost:
                        return
                    self._news.clear()
                    await self._news.wait()
                else:
                    await self._print(job)

    async def _print(self, job: Job) -> None:
        job.state = JobState.ABORTED if self.faults.abort_jobs else JobState.PROCESSING
        if job.state is JobState.PROCESSING and job.format.startswith("text/"):
            await self._print_text(job)
        elif job.state is JobState.PROCESSING:
            await self._runtime.clock.sleep(self.options.line_s)
            job.state = JobState.COMPLETED

    async def _print_text(self, job: Job) -> None:
        lines = job.document.decode("utf-8", "replace").replace(FORM_FEED, f"{FORM_FEED}\r\n").split("\r\n")[:-1]
        for text in lines[job.done_lines :]:
            if self.options.line_s:
                await self._runtime.clock.sleep(self.options.line_s)
            if self.stopped:
                job.state = JobState.STOPPED
                return
            if job not in self.jobs:
                return  # the power was cut
            job.done_lines += 1
            if text == FORM_FEED:
                self.receipts[-1].cut = True
                self.receipts.append(Sheet())
            else:
                self.receipts[-1].lines.append(SheetLine(text))
                self.paper_lines -= 1
        job.state = JobState.COMPLETED

    # -- what people do to it ------------------------------------------------------------------------------------------

    def load_paper(self, lines: int | None = None) -> None:
        """Put in paper, as much as it holds unless said otherwise; zero takes it out."""
        self.paper_lines = self.options.paper_lines if lines is None else lines
        self._news.set()

    def set_cover(self, *, is_open: bool) -> None:
        """Open or close the cover."""
        self.cover_open = is_open
        self._news.set()

    def set_paused(self, *, paused: bool) -> None:
        """Stop it with its button, and let it go on."""
        self.paused = paused
        self._news.set()

    def set_jammed(self, *, jammed: bool) -> None:
        """Let paper get stuck, and take it out."""
        self.jammed = jammed
        self._news.set()

    async def power_cut(self) -> None:
        """Off and on: its jobs are forgotten and numbered anew; the paper in it comes out."""
        self.jobs.clear()
        self._next_id = 1
        self.receipts.append(Sheet())
        self._news.set()
        await self.hang_up()

    async def obey(self, request: dict[str, object]) -> dict[str, object] | None:
        """See `PeripheralSimulator`."""
        match request:
            case {"cmd": "jobs"}:
                return {"jobs": [{"id": job.id, "name": job.name, "state": job.state.name} for job in self.jobs]}
            case {"cmd": "documents"}:
                return {"documents": [[job.format, base64.b64encode(job.document).decode()] for job in self.jobs]}
            case {"cmd": "paper", **rest}:
                lines = rest.get("lines")
                self.load_paper(lines if isinstance(lines, int) else None)
            case {"cmd": "cover", "open": bool(is_open)}:
                self.set_cover(is_open=is_open)
            case {"cmd": "pause", "on": bool(paused)}:
                self.set_paused(paused=paused)
            case {"cmd": "jam", "on": bool(jammed)}:
                self.set_jammed(jammed=jammed)
            case {"cmd": "power_cut"}:
                await self.power_cut()
            case _:
                return None
        return {"ok": True}


def with_leak(group: Group, leak: str) -> Group:
    """A group of an answer with a card number in every text that may be one; the same without a number."""
    if not leak:
        return group
    tag, sent = group
    more = {
        Tag.OPERATION: ("status-message", "detailed-status-message"),
        Tag.PRINTER: ("printer-name", "printer-info", "printer-location", "printer-state-message", "printer-more-info"),
        Tag.JOB: ("job-state-message", "job-originating-user-name"),
    }.get(tag, ())
    return tag, [*(_leaking(one, leak) for one in sent), *(attribute(name, Tag.TEXT, leak) for name in more)]


def _leaking(one: Attribute, leak: str) -> Attribute:
    match one.tag:
        case Tag.NAME | Tag.TEXT:  # a job is known by how its name begins
            return attribute(one.name, one.tag, *(f"{value} {leak}" for value in one.values if isinstance(value, str)))
        case Tag.KEYWORD | Tag.MIME:
            return attribute(one.name, one.tag, *one.values, leak)
        case Tag.URI:
            return attribute(one.name, one.tag, f"urn:uuid:{leak}")
    return one


def _job(job: Job) -> Group:
    reasons: tuple[Value, ...] = ("printer-stopped",) if job.state is JobState.STOPPED else ("none",)
    return Tag.JOB, [
        attribute("job-id", Tag.INTEGER, job.id),
        attribute("job-name", Tag.NAME, job.name),
        attribute("job-state", Tag.ENUM, job.state),
        attribute("job-state-reasons", Tag.KEYWORD, *reasons),
    ]
