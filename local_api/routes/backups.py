"""Backups: how they stand, making one, and letting a paired device fetch and hold the newest sealed one."""

from __future__ import annotations

import base64
import re

from hubd.errors import AccessError, HubError, InvalidValueError
from hubd.model.card_data import check_free_text
from hubd.model.permissions import Permission
from hubd.services.backups import BackupDesk, Elsewhere, Made
from hubd.services.calendar import rfc3339
from local_api.backup_schemas import BackupHere, BackupMade, BackupsOut, BackupWhere, StoredIn, StoredOut
from local_api.call import Call, Reply
from local_api.table import Auth, RouteSpec

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def _desk(call: Call) -> BackupDesk:
    desk = call.context.facts.backups
    if desk is None:
        raise HubError("backup.switched_off", "This hub makes no backups.", remedy="Run it as a daemon.")
    return desk


def _where(copy: Elsewhere) -> BackupWhere:
    return BackupWhere(copy.place, copy.id, copy.seq, copy.hash, rfc3339(copy.made_at_us))


def _here(made: Made) -> BackupHere:
    return BackupHere(made.id, made.path.name, made.size, made.sha256, made.seq, made.hash, rfc3339(made.made_at_us))


async def get_backups(call: Call) -> Reply:
    """What can be fetched here, what is elsewhere, and whether the newest elsewhere is too old."""
    state = await _desk(call).state()
    copies = [_where(copy) for copy in state.elsewhere]
    newest = copies[0] if copies else None
    here = [_here(made) for made in state.here]
    return Reply(BackupsOut(newest, state.overdue, state.last_error or None, here, copies))


async def post_backup(call: Call) -> Reply:
    """Make a backup now and take it to every target that is there."""
    taken = await _desk(call).make()
    made, failed = taken.made, [error.code for error in taken.failed]
    shown = BackupMade(
        made.id, made.path.name, made.size, made.sha256, made.seq, made.hash, rfc3339(made.made_at_us), failed
    )
    return Reply(shown, status=201)


async def get_content(call: Call) -> Reply:
    """The sealed file, whole or one range of it (RFC 9110); `Repr-Digest` is that of the whole (RFC 9530).

    At most two devices fetch at a time, at 8 MiB a second each. Go on after a break with `Range: bytes=N-`.
    """
    desk = _desk(call)
    made = await desk.find(call.id())
    etag = f'"{made.sha256}"'
    wanted = "" if call.header.get("if-range") not in {"", etag} else call.header.get("range")
    part = _range(wanted, made.size)
    first, count = part or (0, made.size)
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f'attachment; filename="{made.path.name}"',
        "content-length": str(count),
        "etag": etag,
        "repr-digest": f"sha-256=:{base64.b64encode(bytes.fromhex(made.sha256)).decode()}:",
    }
    if part is not None:
        headers["content-range"] = f"bytes {first}-{first + count - 1}/{made.size}"
    stream = desk.content(made, first, count)
    return Reply(status=206 if part else 200, headers=headers, media_type="application/octet-stream", stream=stream)


def _range(text: str, size: int) -> tuple[int, int] | None:
    """(first, count) of one range; None for the whole, which is also what several ranges get."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first > last:
        raise InvalidValueError(
            "backup.range",
            "The file has no such bytes.",
            remedy="Ask for a range within its size.",
            params={"bytes": size},
        )
    return first, last - first + 1


async def post_stored(call: Call) -> Reply:
    """A device has stored the file and read it back: an entry, and it counts as a copy off the hub's disk.

    The same again is the same answer. The digest is that of what lies on the device's disk, computed there.
    """
    wanted, desk, caller = call.body, _desk(call), call.caller
    assert isinstance(wanted, StoredIn), "the table names the type of the body"
    if wanted.by_hand is None:
        copy = await desk.stored(call.id(), wanted.sha256, caller)
        return Reply(StoredOut(copy.place, copy.id, True))
    if caller.device or caller.staff is not None:
        raise AccessError(
            "backup.not_by_hand",
            "Only the machine's administrator takes copies by hand.",
            remedy="Leave `by_hand` out; the hub knows which device asks.",
        )
    place, counts = check_free_text(wanted.by_hand.place, "place"), wanted.by_hand.another_disk
    copy = await desk.stored_by_hand(call.id(), wanted.sha256, place, caller, counts=counts)
    return Reply(StoredOut(copy.place, copy.id, counts))


_P = Permission
_MACHINES = frozenset({Auth.DEVICE, Auth.LOCAL})
"""No browser session: what a person downloads there lies on a disk that nobody knows."""
_B = "backups"
ROUTES: tuple[RouteSpec, ...] = (
    RouteSpec("GET", "/v1/backups", _P.BACKUPS_READ, get_backups, "How backups stand", reply=BackupsOut, tag=_B),
    RouteSpec(
        "POST", "/v1/backups", _P.BACKUPS_MAKE, post_backup, "Make a backup", reply=BackupMade, created=True, tag=_B
    ),
    RouteSpec(
        "GET",
        "/v1/backups/{id}/content",
        _P.BACKUPS_KEEP,
        get_content,
        "Fetch a sealed backup",
        auth=_MACHINES,
        reply=bytes,
        stream=True,
        tag=_B,
    ),
    RouteSpec(
        "POST",
        "/v1/backups/{id}/stored",
        _P.BACKUPS_KEEP,
        post_stored,
        "Say that a copy lies on your disk",
        auth=_MACHINES,
        body=StoredIn,
        reply=StoredOut,
        tag=_B,
    ),
)
