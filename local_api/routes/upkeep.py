"""Enrolment, replacement and backups: what binds the hub to its cloud, and what brings it back after a dead disk."""

from __future__ import annotations

from hubd.errors import HubError
from hubd.model.permissions import Permission
from hubd.services.backups import BackupDesk, BackupState
from hubd.services.calendar import rfc3339
from local_api.call import Call, Reply
from local_api.people_schemas import BackupMade, BackupsOut, BackupWhere, EnrolIn, EnrolledOut, SyncRetried
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


def _desk(call: Call) -> BackupDesk:
    desk = call.context.facts.backups
    if desk is None:
        raise HubError("backup.switched_off", "This hub makes no backups.", remedy="Run it as a daemon.")
    return desk


def _where(state: BackupState) -> BackupWhere | None:
    newest = state.last_elsewhere
    return BackupWhere(newest.place, newest.seq, newest.hash, rfc3339(newest.made_at_us)) if newest else None


async def get_backups(call: Call) -> Reply:
    """The newest verified backup that is not on the hub's own disk, and whether it is too old."""
    state = await _desk(call).state()
    return Reply(BackupsOut(_where(state), state.overdue, state.last_error or None))


async def post_backup(call: Call) -> Reply:
    """Make a backup now and take it to every target that is there."""
    made = await _desk(call).make()
    return Reply(BackupMade(made.path.name, made.size, made.sha256, made.seq, made.hash), status=201)


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
    RouteSpec("GET", "/v1/backups", _P.BACKUPS_READ, get_backups, "How backups stand", reply=BackupsOut, tag="hub"),
    RouteSpec(
        "POST", "/v1/backups", _P.BACKUPS_MAKE, post_backup, "Make a backup", reply=BackupMade, created=True, tag="hub"
    ),
)
