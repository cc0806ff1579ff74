"""Looking at one device closely: its trace, which one it is, whether it works. None of these moves money."""

from __future__ import annotations

from hubd.model.permissions import Permission
from hubd.services.calendar import rfc3339
from local_api.call import Call, Reply
from local_api.device_schemas import ShownItselfOut, TraceLineOut, TraceOut, TraceQuery, TrialOut
from local_api.table import RouteSpec

TAG = "devices"


async def trace(call: Call) -> Reply:
    """What went over a device's line, newest last; without card data, which the driver's decoder leaves out."""
    query = call.query
    assert isinstance(query, TraceQuery), "the table names the type of the query"
    found = await call.context.services.trials.trace(call.id(), query.after, query.wait_s, call.caller)
    lines = [TraceLineOut(one.number, rfc3339(one.at_us), one.way.value, one.text, one.times) for one in found]
    return Reply(TraceOut(lines))


async def identify(call: Call) -> Reply:
    """Let a device show which one it is: a printer prints its name, a terminal shows it where its protocol can."""
    shown = await call.context.services.trials.identify(call.id(), call.caller)
    return Reply(ShownItselfOut(shown.how, shown.print_job or None))


async def print_test_code(call: Call) -> Reply:
    """Print the code by which a scanner that types shows for which keyboard it is set."""
    return Reply(ShownItselfOut("printed", await call.context.services.trials.print_test_code(call.id(), call.caller)))


async def test(call: Call) -> Reply:
    """Try what a device is for, without moving money; a scanner is waited for up to 30 seconds."""
    tried = await call.context.services.trials.test(call.id(), call.caller)
    return Reply(
        TrialOut(
            outcome=tried.outcome,
            good=tried.good,
            remedy=tried.remedy or None,
            grams=tried.grams,
            print_job=tried.print_job or None,
            symbology=tried.symbology or None,
            characters=tried.characters or None,
        )
    )


_OPERATE = Permission.DEVICES_OPERATE
ROUTES = (
    RouteSpec(
        "GET",
        "/v1/devices/{id}/trace",
        _OPERATE,
        trace,
        "Read what went over a device's line",
        query=TraceQuery,
        reply=TraceOut,
        tag=TAG,
    ),
    RouteSpec(
        "POST",
        "/v1/devices/{id}/identify",
        _OPERATE,
        identify,
        "Let a device show which one it is",
        reply=ShownItselfOut,
        tag=TAG,
    ),
    RouteSpec(
        "POST",
        "/v1/devices/{id}/test-code",
        _OPERATE,
        print_test_code,
        "Print the test code of a scanner",
        reply=ShownItselfOut,
        tag=TAG,
    ),
    RouteSpec("POST", "/v1/devices/{id}/test", _OPERATE, test, "Try a device", reply=TrialOut, tag=TAG),
)
