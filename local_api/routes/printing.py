"""Paper and weights: print jobs, the drawer, and what lies on a scale."""

from __future__ import annotations

import msgspec

from hubd.model.permissions import Permission
from hubd.model.print_job import PrintJob
from hubd.model.printing import PrintDocument
from hubd.services.calendar import rfc3339
from hubd.services.printing import PrintRequest
from local_api.call import Call, Reply
from local_api.paper import HTML, PDF, preferred, rendered
from local_api.print_schemas import (
    DisplayIn,
    PaperIn,
    PrintAgainIn,
    PrintJobIn,
    PrintJobOut,
    PrintJobPage,
    PrintJobQuery,
    ReceiptIn,
    WeightOut,
)
from local_api.routes.payments import accepted_out
from local_api.table import RouteSpec

TAG = "printing"
COLUMNS = 42
"""Of a job that is looked at: its printer lays it out in its own."""
ZONE = "UTC"
"""Times of jobs: a job belongs to a printer and to no sale, so it has no business day of its own."""


def job_out(job: PrintJob) -> PrintJobOut:
    """A print job as it leaves the hub."""
    return PrintJobOut(
        id=job.id,
        accepted=accepted_out(job.accepted),
        seq=job.last_seq,
        state=job.state.value,
        title=job.title,
        printer=job.printer,
        payment=job.payment or None,
        papers=job.papers,
        reason=job.reason or None,
        requested_at=rfc3339(job.requested_at_us, ZONE),
        updated_at=rfc3339(job.updated_at_us, ZONE),
    )


async def put_job(call: Call) -> Reply:
    """Print a receipt or a document; on disk when this answers, on paper when the printer can."""
    wanted = call.body
    assert isinstance(wanted, PrintJobIn), "the table names the type of the body"
    language = call.caller.language
    receipt = wanted.receipt
    if isinstance(receipt, ReceiptIn):
        document = await call.context.services.receipts.paper(receipt.payment, receipt.purpose, call.caller)
    else:
        assert isinstance(wanted.document, PaperIn), "one of the two is there"
        document = msgspec.convert(msgspec.to_builtins(wanted.document) | {"language": language[:2]}, PrintDocument)
    request = PrintRequest(
        call.id(),
        document,
        wanted.printer,
        receipt.payment if receipt else "",
        receipt.purpose if receipt else "",
    )
    submitted = await call.context.services.printing.submit(request, call.caller)
    return Reply(job_out(submitted.job), 201 if submitted.created else 200)


async def get_job(call: Call) -> Reply:
    """The job as it is now."""
    return Reply(job_out(await call.context.services.printing.get(call.id(), call.caller)))


async def get_paper(call: Call) -> Reply:
    """What a job prints, to look at; it says COPY where that is, or may be, on paper already."""
    document = await call.context.services.printing.content(call.id(), call.caller)
    media = preferred(call.header.get("accept"), (HTML, PDF))
    paper = await rendered(document, COLUMNS, media)
    return Reply(paper.body, headers={"vary": "Accept", **paper.headers}, media_type=paper.media_type)


async def list_jobs(call: Call) -> Reply:
    """Print jobs, newest first."""
    query = call.query
    assert isinstance(query, PrintJobQuery), "the table names the type of the query"
    found = await call.context.services.printing.page(query.before_seq, query.limit + 1, call.caller)
    shown = found[: query.limit]
    more = str(shown[-1].seq) if len(found) > query.limit else ""
    return Reply(PrintJobPage([job_out(job) for job in shown], more))


async def print_again(call: Call) -> Reply:
    """Print a job once more; from its second paper on it says COPY."""
    wanted = call.body
    assert isinstance(wanted, PrintAgainIn), "the table names the type of the body"
    return Reply(job_out(await call.context.services.printing.again(call.id(), wanted.printer, call.caller)))


async def cancel_job(call: Call) -> Reply:
    """Give up a job that waits, or of which nobody knows whether it is out."""
    return Reply(job_out(await call.context.services.printing.cancel(call.id(), call.caller)))


async def open_drawer(call: Call) -> Reply:
    """Open the cash drawer at a printer."""
    await call.context.services.printing.open_drawer(call.id(), call.caller)
    return Reply(None, 204)


async def display(call: Call) -> Reply:
    """Show two rows of twenty characters to the customer, on the line display at a printer; none clears it."""
    wanted = call.body
    assert isinstance(wanted, DisplayIn), "the table names the type of the body"
    await call.context.services.printing.display(call.id(), wanted.rows, call.caller)
    return Reply(None, 204)


async def weigh(call: Call) -> Reply:
    """Ask a scale once; there is a weight only where the scale itself calls it stable."""
    weight, none = await call.context.services.weighing.weigh(call.id(), call.caller)
    return Reply(
        WeightOut(
            grams=weight.grams if weight else None,
            net=weight.net if weight else False,
            reason=none.reason if none else None,
            remedy=(none.remedy or None) if none else None,
        )
    )


_P = Permission
ROUTES = (
    RouteSpec(
        "PUT",
        "/v1/print-jobs/{id}",
        _P.PRINT,
        put_job,
        "Print a receipt or a document",
        body=PrintJobIn,
        reply=PrintJobOut,
        created=True,
        tag=TAG,
    ),
    RouteSpec("GET", "/v1/print-jobs/{id}", _P.PRINT, get_job, "Read a print job", reply=PrintJobOut, tag=TAG),
    RouteSpec(
        "GET",
        "/v1/print-jobs/{id}/paper",
        _P.PRINT,
        get_paper,
        "Look at what a print job prints",
        media=HTML,
        also=(PDF,),
        tag=TAG,
    ),
    RouteSpec(
        "GET",
        "/v1/print-jobs",
        _P.PRINT,
        list_jobs,
        "List print jobs",
        query=PrintJobQuery,
        reply=PrintJobPage,
        tag=TAG,
    ),
    RouteSpec(
        "POST",
        "/v1/print-jobs/{id}/again",
        _P.PRINT,
        print_again,
        "Print a job once more",
        body=PrintAgainIn,
        body_optional=True,
        reply=PrintJobOut,
        tag=TAG,
    ),
    RouteSpec(
        "POST", "/v1/print-jobs/{id}/cancel", _P.PRINT, cancel_job, "Give up a print job", reply=PrintJobOut, tag=TAG
    ),
    RouteSpec("POST", "/v1/devices/{id}/open-drawer", _P.PRINT, open_drawer, "Open a cash drawer", tag=TAG),
    RouteSpec(
        "POST", "/v1/devices/{id}/display", _P.PRINT, display, "Show rows on a line display", body=DisplayIn, tag=TAG
    ),
    RouteSpec("GET", "/v1/scales/{id}/weight", _P.DEVICES_READ, weigh, "Weigh", reply=WeightOut, tag=TAG),
)
