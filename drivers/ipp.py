"""Office printers, and receipt printers that speak as they do: IPP over HTTP (RFC 8010, 8011).

Documents go as PDF where the printer takes it, else as PWG raster, else as plain text.

**When a document counts as printed.** The printer makes a job of it and says of that job that it is completed. Each job
has a name that begins with a number drawn for it, so after a lost answer the printer is asked, on another line, for the
job of this name: one that is there is followed to its end, and nothing is sent again. A printer that knows no such job,
asked twice, has not printed a request that never left in full; of one that did, nobody knows.

**A job that stands still** (paper out in its middle) is left to the printer, which prints it once paper is put in, and
is unknown to the hub: it is never sent again by itself.

The address holds the printer's path, `tcp://host:631/ipp/print`; over TLS its roots and name as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from drivers.appetite import PAGES
from drivers.base import DriverOptions, Identity, Lines, Manifest, Mdns, PrinterDriver, Tcp, Tls
from drivers.http_line import HttpDevice, LineLostError
from drivers.ipp_codec import (
    CONTENT_TYPE,
    Attributes,
    JobState,
    Message,
    Operation,
    bounded,
    decode,
    number,
    request,
    words,
)
from drivers.ipp_printer import ASKED, REMEDIES, PrinterFacts, facts_of, rendered
from hubd.errors import DeviceError, HubError
from hubd.model.device import Capability, DeviceKind
from hubd.model.ipp import Attribute, IppFormatError, Tag, attribute
from hubd.model.printing import PrintDocument
from hubd.ports import ByteStream, NotPrinted, Printed, PrinterCondition, PrintOutcome, PrintUnknown
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="ipp",
    name="Printer that speaks IPP",
    kind=DeviceKind.PRINTER,
    matches=(Mdns("_ipp._tcp.local."), Tcp(631), Tls(631)),
    capabilities=frozenset({Capability.PRINT, Capability.PRINTER_STATUS}),
    stage="experimental",
    docs="IPP over HTTP, `tcp://host:631/ipp/print`, as PDF, PWG raster or text; each job is followed to its end.",
    driver="IppPrinter",
    recovers_within_s=60.0,
)

PATH = "/ipp/print"
"""Where IPP Everywhere has its printers; one that announces another path has it in its address."""
USER = "hubd"
ANSWER_TIMEOUT_S = 8.0
HAND_OVER_TIMEOUT_S = 60.0
"""For a document to be taken: a printer that wakes up needs half of it."""
POLL_S = 1.0
STUCK_POLLS = 5
"""So often in a row the printer must say that it cannot go on before its job is left to it."""
JOB_TIMEOUT_S = 300.0
RECOVER_S = 30.0
"""How long a printer that has taken a document, or may have, is asked before it is given up."""
NOT_FOUND_AGAIN_S = 2.0
"""A request may still be on its way inside the printer when it is asked about; so it is asked twice."""
CUT_OFF_MAX = 3
"""So many documents in a row that a printer does not take to their end: then a person decides, and no more is sent."""
JOBS_MAX = 100
TOKEN_BYTES = 8
NAME_OCTETS_MAX = 255
_BUSY = (0x0503, 0x0506, 0x0507)
"""RFC 8011 B.1.5: service unavailable, not accepting jobs, busy: the same request may be taken later."""
_NOT_FOUND = 0x0406
_JOB_ASKED = attribute("requested-attributes", Tag.KEYWORD, "job-id", "job-name", "job-state", "job-state-reasons")
_FAILED = {JobState.CANCELED: "job_canceled", JobState.ABORTED: "job_aborted"}


class _Job(Struct):
    """A document on its way."""

    token: str
    """How its name begins."""
    id: int | None = None
    whole: bool = False
    """Whether the request has left in full."""


class _RefusedError(Exception):
    """The printer has answered that it does not do what was asked."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class IppPrinter(PrinterDriver):
    """The hub's side of IPP: a document leaves at most once, and only its job's end makes it printed."""

    capabilities = MANIFEST.capabilities
    appetite = PAGES
    keep_alive_s = 10.0

    def __init__(self, runtime: Runtime, options: DriverOptions | None = None) -> None:
        self._clock, self._ids = runtime.clock, runtime.ids
        # A printer may end its connection whenever it likes: how it is, is known by asking.
        self._http = HttpDevice(self._clock, idle_end_s=0.0)
        self._scheme, self._path = "ipp", PATH
        self._clean = False
        self._request_id = 0
        self._facts: PrinterFacts | None = None
        self._cut_off = 0
        """How many documents in a row it did not take to their end."""

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line."""
        self._http.attach(stream, url, lines)
        place = urlsplit(url)
        self._scheme, self._path = "ipps" if place.scheme == "tls" else "ipp", place.path or PATH
        self._clean, self._facts = True, None

    async def pump(self) -> str:
        """Read until the line is lost, and return why. Where the printer ended it in peace, the next one is read."""
        return await self._http.pump()

    async def close(self) -> None:
        """Give the line back."""
        self._facts = None
        await self._http.close()

    @property
    def usable(self) -> bool:
        """Whether every dialogue has ended as it should, and the line is there or may be opened anew."""
        return self._clean and self._http.there

    # -- what it says of itself ----------------------------------------------------------------------------------------

    @property
    def condition(self) -> PrinterCondition:
        """Paper and cover as it last said; nothing is known of a printer that is not there."""
        return self._facts.condition if self._facts and self._http.there else PrinterCondition()

    @property
    def noticed(self) -> Identity | None:
        """What it last said that keeps it from printing."""
        return _identity(self._facts) if self._facts else None

    async def identify(self) -> Identity:
        """Ask what it is and takes. Raises DeviceError `device.protocol` for what is no printer that can be used."""
        try:
            facts = await self._look()
        except IppFormatError as error:
            raise _foreign(str(error)) from None
        except LineLostError as error:
            raise _foreign(error.reason) if error.reason in ("not_http", "unasked") else error from None
        except _RefusedError as error:
            raise _foreign(f"status 0x{error.status:04x}") from None
        if not facts.takes_jobs:
            raise _foreign("it takes no jobs")
        if not facts.format:
            raise _foreign("it takes neither PDF, PWG raster nor text")
        return _identity(facts)

    async def check(self) -> Identity:
        """Ask how it is."""
        try:
            return _identity(await self._look())
        except (IppFormatError, _RefusedError) as error:
            raise _foreign(str(error)) from None

    async def _look(self) -> PrinterFacts:
        """Raises OSError, IppFormatError, `_RefusedError`."""
        return self._note(await self._ask(Operation.GET_PRINTER_ATTRIBUTES, [_wanted(ASKED)]))

    def _note(self, answer: Message) -> PrinterFacts:
        self._facts = facts_of(answer.group(Tag.PRINTER))
        return self._facts

    # -- messages ------------------------------------------------------------------------------------------------------

    def _request(self, operation: Operation, attributes: Iterable[Attribute], document: bytes = b"") -> bytes:
        self._request_id = self._request_id % 0x7FFFFFFF + 1
        uri = f"{self._scheme}://{self._http.host}{self._path}"
        user = attribute("requesting-user-name", Tag.NAME, USER)
        # RFC 8011 4.1.5: what names the target comes before all others.
        target = [one for one in attributes if one.name == "job-id"]
        others = [one for one in attributes if one.name != "job-id"]
        return request(operation, self._request_id, uri, [*target, user, *others], document)

    async def _ask(self, operation: Operation, attributes: Iterable[Attribute]) -> Message:
        """A question on the line. Raises OSError, IppFormatError, `_RefusedError`; the first two leave it unusable."""
        return await self._post(self._request(operation, list(attributes)), ANSWER_TIMEOUT_S)

    async def _post(self, data: bytes, timeout_s: float, sent: Callable[[], None] = lambda: None) -> Message:
        line = await self._http.ready_line()
        self._clean = False
        answer = await line.post(self._http.host, self._path, data, timeout_s, sent, CONTENT_TYPE)
        message = self._answer(answer.status, answer.body)
        self._clean = True
        return _good(message)

    async def _ask_apart(self, operation: Operation, attributes: Iterable[Attribute]) -> Message:
        """A question on a line of its own, when the other one is lost. Raises like `_ask`, and HubError."""
        data = self._request(operation, list(attributes))
        answer = await self._http.post_apart(self._path, data, ANSWER_TIMEOUT_S, content_type=CONTENT_TYPE)
        return _good(self._answer(answer.status, answer.body))

    def _answer(self, status: int, body: bytes) -> Message:
        if status != 200:
            raise IppFormatError(f"http_{status}")
        message = decode(body)
        if message.request_id != self._request_id:
            raise IppFormatError("an answer to another question")
        return message

    # -- Printer -------------------------------------------------------------------------------------------------------

    async def print(self, document: PrintDocument) -> PrintOutcome:
        """Hand it over once and follow its job. What opens a drawer is left out: there is none."""
        if not self.usable:
            return _not_printed("unreachable")
        try:
            facts = await self._look()
        except (OSError, IppFormatError, _RefusedError):
            return _not_printed("no_answer")
        if facts.trouble:
            return _not_printed(facts.trouble)
        job = _Job(self._ids.token_bytes(TOKEN_BYTES).hex())
        try:
            found = await self._hand_over(job, document, facts)
        except _RefusedError as error:
            return self._refused(error.status)
        except (OSError, IppFormatError):
            return await self._find_out(job)
        return await self._follow(job, found)

    async def open_drawer(self) -> PrintOutcome:
        """There is none."""
        return _not_printed("no_drawer")

    async def _hand_over(self, job: _Job, document: PrintDocument, facts: PrinterFacts) -> Attributes:
        name = bounded(f"{job.token} {document.title}", NAME_OCTETS_MAX)
        attributes = [attribute("job-name", Tag.NAME, name), attribute("document-format", Tag.MIME, facts.format)]
        data = self._request(Operation.PRINT_JOB, attributes, await rendered(document, facts))

        def left() -> None:
            job.whole = True

        return (await self._post(data, HAND_OVER_TIMEOUT_S, left)).group(Tag.JOB)

    def _refused(self, status: int) -> PrintOutcome:
        """It has made no job. What it would refuse again must not be sent again by itself."""
        if status not in _BUSY:
            return PrintUnknown(f"refused_0x{status:04x}")
        facts = self._facts or PrinterFacts()
        self._facts = replace(facts, trouble="busy")
        return _not_printed("busy")

    # -- what becomes of it --------------------------------------------------------------------------------------------

    async def _find_out(self, job: _Job) -> PrintOutcome:
        """The answer to a document was lost: look for its job, on lines of their own."""
        self._clean = False
        until = self._clock.monotonic() + RECOVER_S
        not_found = 0
        while not_found < 2:
            try:
                found = await self._job_of_name(job)
            except (OSError, HubError, IppFormatError, _RefusedError):
                if self._clock.monotonic() > until:
                    return PrintUnknown("no_answer")
            else:
                if found is not None:
                    return await self._follow(job, found)
                not_found += 1
            await self._clock.sleep(NOT_FOUND_AGAIN_S)
        # A job of a request that was cut off would be there; one of a whole request may be done and forgotten.
        if job.whole:
            return PrintUnknown("not_found")
        self._cut_off += 1
        return PrintUnknown("cut_off") if self._cut_off >= CUT_OFF_MAX else _not_printed("no_answer")

    async def _job_of_name(self, job: _Job) -> Attributes | None:
        for which in ("not-completed", "completed"):
            asked = [
                attribute("limit", Tag.INTEGER, JOBS_MAX),
                _JOB_ASKED,
                attribute("which-jobs", Tag.KEYWORD, which),
            ]
            answer = await self._ask_apart(Operation.GET_JOBS, asked)
            for found in answer.all(Tag.JOB):
                if _is(job, found):
                    return found
        return None

    async def _follow(self, job: _Job, found: Attributes) -> PrintOutcome:
        """Ask for the job until it has ended, cannot go on, or is out of reach for too long."""
        job.id = number(found, "job-id")
        if job.id is None:
            return PrintUnknown("no_job_id")
        began = heard = self._clock.monotonic()
        stuck = 0
        while True:
            state = number(found, "job-state")
            if state == JobState.COMPLETED:
                errors = "job-completed-with-errors" in words(found, "job-state-reasons")
                self._cut_off = 0
                return PrintUnknown("completed_with_errors") if errors else Printed(self.condition)
            if state in _FAILED:
                return PrintUnknown(_FAILED[JobState(state)])
            await self._clock.sleep(POLL_S)
            try:
                found, facts = await self._how_is(job.id)
            except _RefusedError as error:
                return PrintUnknown("forgotten" if error.status == _NOT_FOUND else f"refused_0x{error.status:04x}")
            except (OSError, HubError, IppFormatError):
                if self._clock.monotonic() - heard > RECOVER_S:
                    return PrintUnknown("no_answer")
                continue
            if not _is(job, found):
                return PrintUnknown("forgotten")  # the number is another's now: it was switched off and on
            heard = self._clock.monotonic()
            stuck = stuck + 1 if facts.trouble else 0
            if stuck >= STUCK_POLLS:
                return PrintUnknown(facts.trouble)
            if heard - began > JOB_TIMEOUT_S:
                return PrintUnknown("too_slow")

    async def _how_is(self, job_id: int) -> tuple[Attributes, PrinterFacts]:
        """The job and the printer, over the line or beside it."""
        ask = self._ask if self.usable else self._ask_apart
        facts = self._note(await ask(Operation.GET_PRINTER_ATTRIBUTES, [_wanted(ASKED)]))
        job = await ask(Operation.GET_JOB_ATTRIBUTES, [attribute("job-id", Tag.INTEGER, job_id), _JOB_ASKED])
        return job.group(Tag.JOB), facts


def _wanted(names: tuple[str, ...]) -> Attribute:
    return attribute("requested-attributes", Tag.KEYWORD, *names)


def _good(message: Message) -> Message:
    if not message.good:
        raise _RefusedError(message.code)
    return message


def _is(job: _Job, found: Attributes) -> bool:
    return any(name.startswith(job.token) for name in words(found, "job-name"))


def _identity(facts: PrinterFacts) -> Identity:
    return Identity(facts.uuid, facts.trouble, REMEDIES[facts.trouble] if facts.trouble else "")


def _not_printed(reason: str) -> NotPrinted:
    return NotPrinted(reason, REMEDIES[reason])


def _foreign(reason: str) -> DeviceError:
    return DeviceError(
        "device.protocol",
        f"No printer that the hub can use answers there ({reason}).",
        remedy="Correct its address and path, and let it take jobs from the network without a password.",
        params={"reason": "not_ipp"},
    )
