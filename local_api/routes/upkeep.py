"""Enrolment, replacement and the retry of what could not be applied: what binds the hub to its cloud."""

from __future__ import annotations

from hubd.errors import HubError
from hubd.model.ids import id_bytes
from hubd.model.permissions import Permission
from hubd.model.retention import DATE_UNKNOWN
from local_api.call import Call, Reply
from local_api.people_schemas import EnrolIn, EnrolledOut, ForgottenOut, SyncRetried
from local_api.rivals import WORDS_PATH, Words
from local_api.table import RouteSpec


async def post_enrolment(call: Call) -> Reply:
    """Bind the hub to a tenant and a store by a one-time code; durable when this answers."""
    wanted, enrol = call.body, call.context.facts.enrol
    assert isinstance(wanted, EnrolIn), "the table names the type of the body"
    if enrol is None:
        raise HubError("enrolment.switched_off", "This hub talks to no cloud.", remedy="Set cloud.enabled.")
    tenant, store = await enrol(wanted.cloud, wanted.code, call.caller)
    return Reply(EnrolledOut(tenant, store))


async def get_replacements(call: Call) -> Reply:
    """The cloud's signed words about which line sells in the place of which: for a hub that was not told."""
    return Reply(Words(await call.context.services.replacement.words()))


async def post_sync_retry(call: Call) -> Reply:
    """Apply again, in order, what the cloud sent and this hub could not use; durable when this answers."""
    retry = call.context.facts.retry_sync
    if retry is None:
        raise HubError("sync.switched_off", "This hub talks to no cloud.", remedy="Set cloud.enabled.")
    return Reply(SyncRetried(await retry()))


async def erase_document(call: Call) -> Reply:
    """Forget personal data: at once, or on the date until which a law keeps it, which the answer names."""
    document_id = call.id()
    found = await call.context.services.documents.forget(id_bytes(document_id), call.caller)
    if found.erased:
        return Reply(ForgottenOut(document_id, "erased", None, None))
    until = found.kept_until if found.kept_until != DATE_UNKNOWN else None
    return Reply(ForgottenOut(document_id, "kept", until, found.law))


_P = Permission
ROUTES: tuple[RouteSpec, ...] = (
    RouteSpec(
        "POST",
        "/v1/enrolment",
        _P.MAINTENANCE,
        post_enrolment,
        "Bind the hub to its cloud",
        body=EnrolIn,
        reply=EnrolledOut,
        tag="hub",
    ),
    RouteSpec("GET", WORDS_PATH, None, get_replacements, "The cloud's words on replaced hubs", reply=Words, tag="hub"),
    RouteSpec(
        "POST",
        "/v1/sync/retry",
        _P.MAINTENANCE,
        post_sync_retry,
        "Apply again what the cloud sent and could not be used",
        reply=SyncRetried,
        tag="hub",
    ),
    RouteSpec(
        "POST",
        "/v1/documents/{id}/erase",
        _P.DOCUMENTS_ERASE,
        erase_document,
        "Have personal data forgotten as soon as the law allows",
        reply=ForgottenOut,
        tag="hub",
    ),
)
