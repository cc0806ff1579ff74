"""What a queue says of itself and of its jobs in IPP (RFC 8011 chapter 5, PWG 5100.12)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from msgspec import Struct

import hubd
from hubd.model.device import DeviceState
from hubd.model.ipp import Attribute, Collection, Group, Range, Resolution, Tag, Value, attribute, collection
from hubd.model.print_job import PrintJob, PrintState
from hubd.ports import Paper
from hubd.services.spool import TITLE, PrinterState, Queue

PLAIN, ESCPOS, OCTETS, PWG = "text/plain", "application/vnd.escpos", "application/octet-stream", "image/pwg-raster"
FORMATS = (OCTETS, PLAIN, "text/plain;charset=utf-8", ESCPOS, PWG)
OPERATIONS = {
    0x0002: "Print-Job",
    0x0004: "Validate-Job",
    0x0005: "Create-Job",
    0x0006: "Send-Document",
    0x0008: "Cancel-Job",
    0x0009: "Get-Job-Attributes",
    0x000A: "Get-Jobs",
    0x000B: "Get-Printer-Attributes",
}
DOTS_PER_INCH = 203
WIDTH_HUNDREDTHS_MM = 6300
"""What 42 columns of 12 dots are wide, 203 dots to the inch: paper of 80 mm shows it whatever the printer."""
MEDIA = {
    "custom_receipt_63x200mm": 20000,
    "custom_receipt-long_63x300mm": 30000,
    "custom_receipt-short_63x100mm": 10000,
}
"""Names after PWG 5101.1, and their length; paper is cut where the job ends."""
ANONYMOUS = "anonymous"
_MEDIA_DEFAULT = next(iter(MEDIA))


class KnownJob(Struct):
    """What is remembered of a job that came by IPP while the hub runs; never stored, because it may name people."""

    id: str
    address: str
    name: str
    user: str
    received: bool = False
    """Whether its document has come."""
    cancelled: bool = False
    created_us: int = 0


def number_of(job_id: str) -> int:
    """The IPP job number of one of our ids: 31 bits of it that are random, so it is the same after a restart."""
    return int.from_bytes(uuid.UUID(job_id).bytes[-4:], "big") & 0x7FFFFFFF or 1


_STATES = {PrintState.WAITING: 3, PrintState.PRINTING: 5, PrintState.PRINTED: 9, PrintState.CANCELLED: 7}
COMPLETED = 9
PENDING, CANCELED = 3, 7
"""`unknown` is completed, with errors: an aborted job would be sent again by its client, and come out twice."""
_REASONS = {
    PrintState.WAITING: "job-queued",
    PrintState.PRINTING: "job-printing",
    PrintState.PRINTED: "job-completed-successfully",
    PrintState.UNKNOWN: "job-completed-with-errors",
    PrintState.CANCELLED: "job-canceled-by-user",
}
_UNKNOWN_TEXT = "Nobody knows whether it is on paper. Look, and print it again at the hub: it will say COPY."


def state_of(job: PrintJob | None) -> int:
    """The job-state of RFC 8011; one that has not arrived yet is pending."""
    return PENDING if job is None else _STATES.get(job.state, COMPLETED)


def is_over(job: PrintJob) -> bool:
    """Whether nothing more will become of it by itself."""
    return state_of(job) >= CANCELED


def job_attributes(
    known: KnownJob | None, job: PrintJob | None, uri: str, up_s: int, now_us: int
) -> tuple[Attribute, ...]:
    """All attributes of one job. Of a job of somebody else nobody hears name and user."""
    job_id = job.id if job else known.id if known else ""
    created_us = job.requested_at_us if job else known.created_us if known else now_us
    state, reason = state_of(job), _REASONS[job.state] if job else "job-incoming"
    if job is None and known is not None and known.cancelled:
        state, reason = CANCELED, "job-canceled-by-user"
    ago = [up_s - max(0, now_us - at_us) // 1_000_000 for at_us in (created_us, job.updated_at_us if job else now_us)]
    begun, ended = state >= 5, state >= CANCELED
    message = _UNKNOWN_TEXT if job and job.state is PrintState.UNKNOWN else reason
    return (
        attribute("job-id", Tag.INTEGER, number_of(job_id)),
        attribute("job-uri", Tag.URI, f"{uri}/{number_of(job_id)}"),
        attribute("job-printer-uri", Tag.URI, uri),
        attribute("job-uuid", Tag.URI, f"urn:uuid:{job_id}"),
        attribute("job-name", Tag.NAME, known.name if known else TITLE),
        attribute("job-originating-user-name", Tag.NAME, known.user if known else ANONYMOUS),
        attribute("job-state", Tag.ENUM, state),
        attribute("job-state-reasons", Tag.KEYWORD, reason),
        attribute("job-state-message", Tag.TEXT, message),
        attribute("job-printer-up-time", Tag.INTEGER, up_s),
        attribute("time-at-creation", Tag.INTEGER, ago[0]),
        attribute("time-at-processing", Tag.INTEGER, ago[1] if begun else None),
        attribute("time-at-completed", Tag.INTEGER, ago[1] if ended else None),
        attribute("number-of-documents", Tag.INTEGER, int(job is not None)),
        attribute("copies", Tag.INTEGER, 1),
        attribute("attributes-charset", Tag.CHARSET, "utf-8"),
        attribute("attributes-natural-language", Tag.LANGUAGE, "en"),
    )


class About(Struct, frozen=True):
    """What is told of a queue beside its printer's state."""

    queue: Queue
    uri: str
    lamp: str
    """Address of the page that says how the shop is."""
    printer_id: str
    queued: int
    up_s: int


def printer_attributes(about: About, state: PrinterState) -> tuple[Attribute, ...]:
    """Everything that a queue says of itself."""
    return *_description(about), *_condition(state, about.queued), *_abilities(), *_media()


def _description(about: About) -> tuple[Attribute, ...]:
    k, n, queue = Tag.KEYWORD, Tag.INTEGER, about.queue
    return (
        attribute("printer-uri-supported", Tag.URI, about.uri),
        attribute("uri-authentication-supported", k, "none"),
        attribute("uri-security-supported", k, "none"),
        attribute("printer-name", Tag.NAME, queue.name),
        attribute("printer-info", Tag.TEXT, f"{queue.printer} (by the store hub)"[:127]),
        attribute("printer-location", Tag.TEXT, ""),
        attribute("printer-make-and-model", Tag.TEXT, f"hubd {hubd.__version__} receipt printer"),
        attribute("printer-more-info", Tag.URI, about.lamp),
        attribute("printer-uuid", Tag.URI, f"urn:uuid:{about.printer_id}"),
        attribute("printer-up-time", n, about.up_s),
        attribute("queued-job-count", n, about.queued),
        attribute("printer-kind", k, "receipt"),
        attribute("printer-device-id", Tag.TEXT, "MFG:hubd;MDL:receipt printer;CMD:ESCPOS,PWGRaster,TXT;"),
    )


def _condition(state: PrinterState, queued: int) -> tuple[Attribute, ...]:
    reasons = []
    if state.condition.paper is Paper.OUT:
        reasons.append("media-empty-error")
    if state.condition.cover_open:
        reasons.append("cover-open-error")
    if state.condition.paper is Paper.LOW:
        reasons.append("media-low-warning")
    if state.state in (DeviceState.GONE, DeviceState.SILENT, DeviceState.CONNECTING):
        reasons.append("offline-report")
    busy = state.state is DeviceState.BUSY or queued > 0
    number = 5 if not state.works else 4 if busy else 3
    return (
        attribute("printer-state", Tag.ENUM, number),
        attribute("printer-state-reasons", Tag.KEYWORD, *(reasons or ["none"])),
        attribute("printer-state-message", Tag.TEXT, state.problem),
        attribute("printer-is-accepting-jobs", Tag.BOOLEAN, True),
    )


def _abilities() -> tuple[Attribute, ...]:
    k, n, e = Tag.KEYWORD, Tag.INTEGER, Tag.ENUM
    dots = Resolution(DOTS_PER_INCH, DOTS_PER_INCH)
    return (
        attribute("ipp-versions-supported", k, "1.1", "2.0"),
        attribute("ipp-features-supported", k, "none"),
        attribute("operations-supported", e, *OPERATIONS),
        attribute("charset-configured", Tag.CHARSET, "utf-8"),
        attribute("charset-supported", Tag.CHARSET, "utf-8"),
        attribute("natural-language-configured", Tag.LANGUAGE, "en"),
        attribute("generated-natural-language-supported", Tag.LANGUAGE, "en"),
        attribute("document-format-default", Tag.MIME, OCTETS),
        attribute("document-format-supported", Tag.MIME, *FORMATS),
        attribute("compression-supported", k, "none", "deflate", "gzip"),
        attribute("pdl-override-supported", k, "not-attempted"),
        attribute("multiple-document-jobs-supported", Tag.BOOLEAN, False),
        attribute("multiple-operation-time-out", n, 60),
        attribute("multiple-operation-time-out-action", k, "abort-job"),
        attribute("which-jobs-supported", k, "completed", "not-completed"),
        attribute("job-creation-attributes-supported", k, "copies", "media", "sides", "print-color-mode"),
        attribute("job-ids-supported", Tag.BOOLEAN, False),
        attribute("copies-default", n, 1),
        attribute("copies-supported", n, Range(1, 1)),
        attribute("sides-default", k, "one-sided"),
        attribute("sides-supported", k, "one-sided"),
        attribute("finishings-default", e, 3),
        attribute("finishings-supported", e, 3, 11),
        attribute("orientation-requested-default", e, 3),
        attribute("orientation-requested-supported", e, 3),
        attribute("output-bin-default", k, "auto"),
        attribute("output-bin-supported", k, "auto"),
        attribute("print-quality-default", e, 4),
        attribute("print-quality-supported", e, 4),
        attribute("print-color-mode-default", k, "monochrome"),
        attribute("print-color-mode-supported", k, "monochrome"),
        attribute("color-supported", Tag.BOOLEAN, False),
        attribute("printer-resolution-default", Tag.RESOLUTION, dots),
        attribute("printer-resolution-supported", Tag.RESOLUTION, dots),
        attribute("pwg-raster-document-resolution-supported", Tag.RESOLUTION, dots),
        attribute("pwg-raster-document-type-supported", k, "black_1", "sgray_8"),
        attribute("pages-per-minute", n, 60),
    )


def _media() -> tuple[Attribute, ...]:
    k, c = Tag.KEYWORD, Tag.COLLECTION
    sizes = [_size(length) for length in MEDIA.values()]
    cols: list[Value] = [_media_col(length) for length in MEDIA.values()]
    zeros = [attribute(f"media-{side}-margin-supported", Tag.INTEGER, 0) for side in ("top", "bottom", "left", "right")]
    return (
        attribute("media-default", k, _MEDIA_DEFAULT),
        attribute("media-supported", k, *MEDIA),
        attribute("media-ready", k, *MEDIA),
        attribute("media-col-default", c, cols[0]),
        attribute("media-col-ready", c, *cols),
        attribute("media-col-database", c, *cols),
        attribute("media-col-supported", k, "media-size", "media-top-margin", "media-left-margin"),
        attribute("media-size-supported", c, *sizes),
        attribute("media-source-supported", k, "main-roll"),
        attribute("media-type-supported", k, "continuous"),
        *zeros,
    )


def _size(length: int) -> Collection:
    return collection(
        attribute("x-dimension", Tag.INTEGER, WIDTH_HUNDREDTHS_MM), attribute("y-dimension", Tag.INTEGER, length)
    )


def _media_col(length: int) -> Collection:
    margins = [attribute(f"media-{side}-margin", Tag.INTEGER, 0) for side in ("top", "bottom", "left", "right")]
    source = attribute("media-source", Tag.KEYWORD, "main-roll")
    return collection(attribute("media-size", Tag.COLLECTION, _size(length)), *margins, source)


_TEMPLATE = ("copies", "sides", "finishings", "orientation-requested", "output-bin", "print-quality", "media",
             "print-color-mode", "printer-resolution")  # fmt: skip
"""Job template attributes; what a printer says of them begins with their name."""


def chosen(attributes: Iterable[Attribute], wanted: Attribute | None) -> tuple[Attribute, ...]:
    """Those that a `requested-attributes` asks for, by name or by group; all of them where it is absent."""
    names = {str(one) for one in wanted.values} if wanted else {"all"}
    if "all" in names:
        return tuple(attributes)
    described = bool(names & {"printer-description", "job-description"})

    def is_wanted(one: Attribute) -> bool:
        of_template = one.name.startswith(_TEMPLATE)
        database = one.name == "media-col-database"  # by name alone (PWG 5100.7)
        return one.name in names or (not database and (("job-template" in names) if of_template else described))

    return tuple(one for one in attributes if is_wanted(one))


def unsupported(groups: Iterable[Group]) -> tuple[Attribute, ...]:
    """What a job asks for and does not get, as the answer names it (RFC 8011, 4.1.7)."""
    accepted = {one.name.removesuffix("-supported"): one for one in (*_abilities(), *_media())}
    refused = []
    for group in groups:
        for one in group.attributes if group.tag == Tag.JOB else ():
            known = accepted.get(one.name) if one.name in _TEMPLATE else None
            if known is None and one.name not in ("media-col", "job-sheets"):
                refused.append(Attribute(one.name, Tag.UNSUPPORTED, (None,)))
            elif known is not None and not all(_is_among(value, known) for value in one.values):
                refused.append(one)
    return tuple(refused)


def _is_among(value: Value, known: Attribute) -> bool:
    return any(
        one.low <= value <= one.high if isinstance(one, Range) and isinstance(value, int) else one == value
        for one in known.values
    )
