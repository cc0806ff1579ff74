"""IPP for tills that print by their operating system: a subset of IPP/2.0 over HTTP (RFC 8010, RFC 8011).

A queue answers only to peers that may print on it. Print-Job and Send-Document answer when the job is on disk; its
state is that of the journal's job, by a number that follows from the job's own id. IPP has no id of the client's, so a
Print-Job that is repeated is a new job; Create-Job and Send-Document let a client ask what became of it instead.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from hubd.errors import AccessError, HubError, InvalidTransitionError, PrintError
from hubd.model.ipp import HEAD_BYTES, Attribute, Group, IppFormatError, Message, Tag, attribute, decode, encode
from hubd.model.print_job import PrintJob, PrintState
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.services.printing import PrintDesk, Submitted
from hubd.services.spool import TITLE, Queue, SpoolDesk
from local_api.gate import Receive, Scope, Send, sender_of
from local_api.spool.ipp_attributes import (
    ANONYMOUS,
    FORMATS,
    OCTETS,
    OPERATIONS,
    PLAIN,
    PWG,
    About,
    KnownJob,
    chosen,
    is_over,
    job_attributes,
    number_of,
    printer_attributes,
    unsupported,
)
from local_api.spool.pwg_raster import MAGIC as PWG_MAGIC
from local_api.spool.pwg_raster import RasterError, pictures_of

log = logging.getLogger(__name__)

PATH = "/ipp/print"
MIME = "application/ipp"
ATTRIBUTE_BYTES_MAX = 64 * 1024
"""Of a request beside its document."""
BODY_SECONDS_MAX = 60
JOBS_SHOWN_MAX = 500
KNOWN_MAX = 500
"""Jobs whose name and sender are remembered; the oldest are forgotten first."""
WAITING_FOR_DOCUMENT_S = 60.0
_OK, _OK_SUBSTITUTED = 0x0000, 0x0001
_BAD_REQUEST, _NOT_POSSIBLE, _NOT_FOUND, _TOO_LARGE = 0x0400, 0x0404, 0x0406, 0x0408
_FORBIDDEN, _FORMAT, _VALUES, _CHARSET, _COMPRESSION, _DOCUMENT = 0x0401, 0x040A, 0x040B, 0x040D, 0x040F, 0x0411
_INTERNAL, _NO_OPERATION, _VERSION, _NOT_ACCEPTING, _BUSY = 0x0500, 0x0501, 0x0503, 0x0506, 0x0507
_MANY_DOCUMENTS = 0x0509
_STATUS = {
    "card_data_refused": _DOCUMENT,
    "not_a_print_job": _DOCUMENT,
    "print_format_unknown": _FORMAT,
    "print_too_long": _TOO_LARGE,
    "print_queue_full": _BUSY,
    "print_too_fast": _BUSY,
    "no_printer": _NOT_ACCEPTING,
    "id_conflict": _NOT_POSSIBLE,
}
"""What a refusal of ours is in IPP; any other is an internal error, and the client tries again later."""


class _RefusedError(Exception):
    def __init__(self, status: int, text: str, attributes: tuple[Attribute, ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.attributes = attributes


class _Request(Struct, frozen=True):
    queue: Queue
    uri: str
    caller: Caller
    address: str
    message: Message

    @property
    def operation(self) -> Group:
        return self.message.group(Tag.OPERATION)

    def text(self, name: str, default: str = "") -> str:
        found = self.operation.get(name)
        value = found.values[0] if found else default
        return value if isinstance(value, str) else default


_Answer = tuple[int, tuple[Group, ...]]


class IppService:
    """The operations, on all queues that have a name."""

    def __init__(
        self,
        runtime: Runtime,
        desk: SpoolDesk,
        printing: PrintDesk,
        queues: Mapping[str, Queue],
        job_bytes_max: int,
        lamp_port: int,
    ) -> None:
        self._ids = runtime.ids
        self._clock = runtime.clock
        self._started = runtime.clock.monotonic()
        self._desk = desk
        self._printing = printing
        self.queues = queues
        self._job_bytes_max = job_bytes_max
        self._lamp_port = lamp_port
        self._known: dict[str, KnownJob] = {}
        self._operations: dict[int, Callable[[_Request], Awaitable[_Answer]]] = {
            0x0002: self._print_job,
            0x0004: self._validate_job,
            0x0005: self._create_job,
            0x0006: self._send_document,
            0x0008: self._cancel_job,
            0x0009: self._get_job,
            0x000A: self._get_jobs,
            0x000B: self._get_printer,
        }
        assert set(self._operations) == set(OPERATIONS), "what is told is what there is"

    @property
    def body_bytes_max(self) -> int:
        """The longest request that can be a good one."""
        return self._job_bytes_max + ATTRIBUTE_BYTES_MAX

    async def lets_in(self, queue: Queue, address: str) -> bool:
        """Whether a peer may print on the queue, asked before anything of its request is read."""
        try:
            await self._desk.admit(queue, address)
        except AccessError:
            return False
        except PrintError:
            return True  # its printer is not in use, which the answer says
        return True

    async def answer(self, queue: Queue, uri: str, address: str, raw: bytes) -> bytes:
        """The answer to one request. Raises AccessError for who may not print here, IppFormatError for noise."""
        caller = None
        status, groups, text = _OK, tuple[Group, ...](), ""
        message = decode(raw)
        try:
            caller = await self._desk.admit(queue, address)
            _check(message)
            operation = self._operations.get(message.code, _no_operation)
            status, groups = await operation(_Request(queue, uri, caller, address, message))
        except _RefusedError as refused:
            status, text = refused.status, refused.text
            groups = (Group(Tag.UNSUPPORTED_GROUP, refused.attributes),) if refused.attributes else ()
        except HubError as error:
            if isinstance(error, AccessError) and caller is None:
                raise
            status, text = _STATUS.get(error.code, _INTERNAL), f"{error.detail} {error.remedy}"
            if caller is not None and message.code in (0x0002, 0x0006):
                self._desk.refused(queue, address, error.code)
        head = [attribute("attributes-charset", Tag.CHARSET, "utf-8")]
        head.append(attribute("attributes-natural-language", Tag.LANGUAGE, "en"))
        if text:
            head.append(attribute("status-message", Tag.TEXT, text[:255]))
        major, minor = message.version
        version = (major, minor) if (major, minor) in ((1, 0), (1, 1), (2, 0)) else (1, 1) if major < 2 else (2, 0)
        return encode(Message(version, status, message.request_id, (Group(Tag.OPERATION, tuple(head)), *groups)))

    # -- jobs in -------------------------------------------------------------------------------------------------------

    async def _print_job(self, request: _Request) -> _Answer:
        refused = self._check_job(request)
        submitted = await self._take(request, self._remember(request))
        return await self._job_answer(request, submitted.job, refused)

    async def _validate_job(self, request: _Request) -> _Answer:
        refused = self._check_job(request)
        return _OK_SUBSTITUTED if refused else _OK, _unsupported_group(refused)

    async def _create_job(self, request: _Request) -> _Answer:
        refused = self._check_job(request)
        known = self._remember(request)
        attributes = self._attributes(request, known, None)
        status = _OK_SUBSTITUTED if refused else _OK
        return status, (*_unsupported_group(refused), Group(Tag.JOB, _short(attributes)))

    async def _send_document(self, request: _Request) -> _Answer:
        if request.operation.get("last-document") is None:
            raise _RefusedError(_BAD_REQUEST, "last-document is missing.")
        known, job = await self._job(request)
        if known is None or known.address != request.address or known.cancelled:
            raise _RefusedError(_NOT_POSSIBLE, "This job takes no document.")
        if known.received:
            if request.message.data:
                raise _RefusedError(_MANY_DOCUMENTS, "A job has one document.")
        elif request.message.data:
            _check_format(request)
            job = (await self._take(request, known)).job
        elif request.operation.get("last-document") == attribute("last-document", Tag.BOOLEAN, True):
            known.cancelled = True  # it was closed without a document: there is nothing to print
        return _OK, (Group(Tag.JOB, _short(self._attributes(request, known, job))),)

    def _remember(self, request: _Request) -> KnownJob:
        taken = {number_of(one) for one in self._known}
        job_id = self._ids.new_id()
        while number_of(job_id) in taken:
            job_id = self._ids.new_id()
        while len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        name, user = request.text("job-name", TITLE)[:255], request.text("requesting-user-name", ANONYMOUS)
        known = KnownJob(job_id, request.address, name, user, created_us=self._clock.now_us())
        self._known[job_id] = known
        return known

    async def _take(self, request: _Request, known: KnownJob) -> Submitted:
        data = await asyncio.to_thread(_inflated, request, self._job_bytes_max)
        kind = _format_of(request)
        sent = (request.caller, request.address, known.id)
        if data.startswith(PWG_MAGIC) and kind in (OCTETS, PWG):
            try:
                items = await asyncio.to_thread(pictures_of, data)
            except RasterError as error:
                raise _RefusedError(_DOCUMENT, f"The picture cannot be read: {error}.") from None
            submitted = await self._desk.picture(request.queue, items, *sent)
        elif kind.startswith(PLAIN) or (kind == OCTETS and _is_text(data)):
            submitted = await self._desk.text(request.queue, data.decode("utf-8", "replace"), *sent)
        elif kind == PWG:
            raise _RefusedError(_DOCUMENT, "This is no PWG raster.")
        else:
            submitted = await self._desk.raw(request.queue, data, *sent)
        known.received = True
        return submitted

    def _check_job(self, request: _Request) -> tuple[Attribute, ...]:
        """What of the wishes is not met. Raises for a format, and for any wish where the client insists on all."""
        _check_format(request)
        if request.message.code == 0x0002 and not request.message.data:
            raise _RefusedError(_BAD_REQUEST, "There is no document.")
        refused = unsupported(request.message.groups)
        fidelity = request.operation.get("ipp-attribute-fidelity")
        if refused and fidelity is not None and fidelity.values == (True,):
            raise _RefusedError(_VALUES, "Not all wishes can be met.", refused)
        return refused

    # -- jobs and printers out -----------------------------------------------------------------------------------------

    async def _job_answer(self, request: _Request, job: PrintJob, refused: tuple[Attribute, ...]) -> _Answer:
        attributes = self._attributes(request, self._known.get(job.id), job)
        status = _OK_SUBSTITUTED if refused else _OK
        return status, (*_unsupported_group(refused), Group(Tag.JOB, _short(attributes)))

    async def _job(self, request: _Request) -> tuple[KnownJob | None, PrintJob | None]:
        number = self._number(request)
        known = next((one for one in self._known.values() if number_of(one.id) == number), None)
        jobs = await self._desk.jobs(request.queue, JOBS_SHOWN_MAX)
        job = next((one for one in jobs if number_of(one.id) == number), None)
        if job is None and known is not None and not known.received:
            waited_s = (self._clock.now_us() - known.created_us) / 1_000_000
            if waited_s > WAITING_FOR_DOCUMENT_S:
                known.cancelled = True
        elif job is None:
            raise _RefusedError(_NOT_FOUND, "There is no such job.")
        return known, job

    def _number(self, request: _Request) -> int:
        if found := request.operation.get("job-id"):
            number = found.values[0]
            if request.operation.get("printer-uri") is None or not isinstance(number, int):
                raise _RefusedError(_BAD_REQUEST, "job-id goes with printer-uri.")
            return number
        last = request.text("job-uri").rpartition("/")[2]
        if not (last.isascii() and last.isdigit() and len(last) <= 10):
            raise _RefusedError(_BAD_REQUEST, "The request names no job.")
        return int(last)

    async def _get_job(self, request: _Request) -> _Answer:
        known, job = await self._job(request)
        wanted = request.operation.get("requested-attributes")
        return _OK, (Group(Tag.JOB, chosen(self._attributes(request, known, job), wanted)),)

    async def _get_jobs(self, request: _Request) -> _Answer:
        which = request.text("which-jobs", "not-completed")
        if which not in ("completed", "not-completed"):
            raise _RefusedError(_VALUES, "which-jobs is completed or not-completed.", (_named(request, "which-jobs"),))
        limit = request.operation.get("limit")
        most = limit.values[0] if limit and isinstance(limit.values[0], int) else JOBS_SHOWN_MAX
        mine = request.operation.get("my-jobs")
        only_mine = mine is not None and mine.values == (True,)
        jobs = await self._desk.jobs(request.queue, JOBS_SHOWN_MAX)
        shown = [one for one in jobs if is_over(one) is (which == "completed")]
        if which == "not-completed":
            shown.reverse()  # the next to be printed first
        if only_mine:
            user = request.text("requesting-user-name", ANONYMOUS)
            shown = [one for one in shown if self._is_of(one.id, request.address, user)]
        wanted = request.operation.get("requested-attributes") or attribute("", Tag.KEYWORD, "job-uri", "job-id")
        groups = [
            Group(Tag.JOB, chosen(self._attributes(request, self._known.get(one.id), one), wanted))
            for one in shown[: max(1, most)]
        ]
        return _OK, tuple(groups)

    async def _cancel_job(self, request: _Request) -> _Answer:
        known, job = await self._job(request)
        if known is None or known.address != request.address:
            raise _RefusedError(_FORBIDDEN, "Another device sent this job.")
        if job is None and not known.cancelled:
            known.cancelled = True
        elif job is not None and job.state is PrintState.WAITING:
            try:
                await self._printing.cancel(job.id, request.caller)
            except InvalidTransitionError:
                raise _RefusedError(_NOT_POSSIBLE, "It has just begun to be printed.") from None
        else:
            raise _RefusedError(_NOT_POSSIBLE, "It is being printed, or it is over.")
        return _OK, ()

    async def _get_printer(self, request: _Request) -> _Answer:
        jobs = await self._desk.jobs(request.queue, JOBS_SHOWN_MAX)
        queued = sum(not is_over(one) for one in jobs)
        printer = self._desk.printer_id(request.queue)
        host = urlsplit(request.uri).hostname or "localhost"
        lamp = f"http://{f'[{host}]' if ':' in host else host}:{self._lamp_port}/"
        about = About(request.queue, request.uri, lamp, printer, queued, self._up_s())
        found = printer_attributes(about, self._desk.state(request.queue))
        return _OK, (Group(Tag.PRINTER, chosen(found, request.operation.get("requested-attributes"))),)

    def _attributes(self, request: _Request, known: KnownJob | None, job: PrintJob | None) -> tuple[Attribute, ...]:
        if known is not None and known.address != request.address:
            known = None if job else KnownJob(known.id, "", TITLE, ANONYMOUS, created_us=known.created_us)
        return job_attributes(known, job, request.uri, self._up_s(), self._clock.now_us())

    def _is_of(self, job_id: str, address: str, user: str) -> bool:
        known = self._known.get(job_id)
        return known is not None and (known.address, known.user) == (address, user)

    def _up_s(self) -> int:
        return 1 + int(self._clock.monotonic() - self._started)


async def _no_operation(request: _Request) -> _Answer:
    raise _RefusedError(_NO_OPERATION, "This operation is not supported.")


def _named(request: _Request, name: str) -> Attribute:
    found = request.operation.get(name)
    assert found is not None, "it was read a moment ago"
    return found


def _unsupported_group(refused: tuple[Attribute, ...]) -> tuple[Group, ...]:
    return (Group(Tag.UNSUPPORTED_GROUP, refused),) if refused else ()


def _short(attributes: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
    wanted = attribute(
        "", Tag.KEYWORD, "job-id", "job-uri", "job-uuid", "job-state", "job-state-reasons", "job-state-message"
    )
    return chosen(attributes, wanted)


def _check(message: Message) -> None:
    """What every request must have (RFC 8011, 4.1)."""
    if message.version[0] not in (1, 2):
        raise _RefusedError(_VERSION, "IPP 1.1 and 2.0 are spoken here.")
    if message.request_id <= 0:
        raise _RefusedError(_BAD_REQUEST, "The request has no id.")
    tags = [group.tag for group in message.groups]
    if not tags or tags[0] != Tag.OPERATION or tags.count(Tag.OPERATION) != 1:
        raise _RefusedError(_BAD_REQUEST, "The operation's attributes stand first, and once.")
    names = [one.name for one in message.groups[0].attributes]
    if names[:2] != ["attributes-charset", "attributes-natural-language"]:
        raise _RefusedError(_BAD_REQUEST, "Charset and language come first.")
    if len(names) != len(set(names)):
        raise _RefusedError(_BAD_REQUEST, "An attribute is there twice.")
    (charset, *_) = message.groups[0].attributes[0].values
    if str(charset).lower() not in ("utf-8", "us-ascii"):
        raise _RefusedError(_CHARSET, "UTF-8 is spoken here.")
    if not {"printer-uri", "job-uri"} & set(names):
        raise _RefusedError(_BAD_REQUEST, "The request names no printer.")


def _format_of(request: _Request) -> str:
    return request.text("document-format", OCTETS).replace(" ", "").lower()


def _check_format(request: _Request) -> None:
    if _format_of(request) not in FORMATS:
        raise _RefusedError(_FORMAT, "This format is not printed here.", (_named(request, "document-format"),))
    if request.text("compression", "none") not in ("none", "deflate", "gzip"):
        raise _RefusedError(_COMPRESSION, "This compression is not known here.", (_named(request, "compression"),))


def _inflated(request: _Request, most: int) -> bytes:
    """The document as it was before it was compressed."""
    how, data = request.text("compression", "none"), request.message.data
    if how != "none":
        unpacker = zlib.decompressobj(-15 if how == "deflate" else 31)
        try:
            data = unpacker.decompress(data, most + 1)
        except zlib.error:
            raise _RefusedError(_DOCUMENT, "The document cannot be unpacked.") from None
    if len(data) > most:
        raise _RefusedError(_TOO_LARGE, f"A document has at most {most} bytes.")
    return data


def _is_text(data: bytes) -> bool:
    """Whether it is UTF-8 without any control character but ends of lines and pages, and tabs."""
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return False
    return not any(byte < 0x20 and byte not in b"\t\n\f\r" for byte in data)


# -- HTTP --------------------------------------------------------------------------------------------------------------


class IppApp:
    """The ASGI application of the port: one address a queue, POST of `application/ipp`, and nothing else."""

    def __init__(self, runtime: Runtime, service: IppService) -> None:
        self._clock = runtime.clock
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        queue = self._queue(scope["path"])
        if queue is None:
            await _say(send, 404)
        elif scope["method"] != "POST":
            await _say(send, 405)
        elif headers.get("content-type", "").partition(";")[0].strip() != MIME or "origin" in headers:
            await _say(send, 415)
        else:
            host = headers.get("host") or "localhost"
            await self._answer(queue, f"ipp://{host}{PATH}/{queue.name}", scope, receive, send)

    def _queue(self, path: str) -> Queue | None:
        """The queue of an address; one that is alone answers to the shorter ones too, as printers do."""
        queues = self._service.queues
        name = path.removeprefix(f"{PATH}/").partition("/")[0] if path.startswith(f"{PATH}/") else ""
        if name:
            return queues.get(name)
        return next(iter(queues.values())) if len(queues) == 1 and path in (PATH, f"{PATH}/", "/") else None

    async def _answer(self, queue: Queue, uri: str, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self._service.lets_in(queue, sender_of(scope)):
            await _say(send, 403)
            return
        try:
            async with self._clock.timeout(BODY_SECONDS_MAX):
                raw = await _body(receive, self._service.body_bytes_max)
        except TimeoutError:
            await _say(send, 408)
            return
        if raw is None:
            await _say(send, 413)
            return
        try:
            answer = await self._service.answer(queue, uri, sender_of(scope), raw)
        except AccessError:
            await _say(send, 403)
        except IppFormatError:
            request_id = raw[4:HEAD_BYTES].ljust(4, b"\0")
            await _say(send, 200, b"\x01\x01" + _BAD_REQUEST.to_bytes(2, "big") + request_id + bytes((Tag.END,)))
        else:
            await _say(send, 200, answer)


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body; None when it is too long, or its sender has left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _say(send: Send, status: int, body: bytes = b"") -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", MIME.encode()))
    if status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
