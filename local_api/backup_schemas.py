"""Requests and answers about backups."""

from __future__ import annotations

from typing import Annotated

import msgspec

from local_api.schemas import Answer, Request

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 of the whole file, in hex.")]


class BackupWhere(Answer, frozen=True):
    """A verified copy on another disk, by the journal's place that it holds."""

    place: str
    """`usb:NAME`, `till:ID`, `cloud`."""
    id: str
    seq: int
    hash: str
    made_at: str


class BackupHere(Answer, frozen=True):
    """A backup that can be fetched: verified when it was made, sealed; only its recipients open it."""

    id: str
    file: str
    bytes: int
    sha256: str
    seq: int
    hash: str
    made_at: str


class BackupsOut(Answer, frozen=True):
    """How backups stand."""

    elsewhere: BackupWhere | None
    """The newest that is not on the hub's disk."""
    overdue: bool
    """Whether the newest one elsewhere is older than 24 hours, or there is none."""
    last_error: str | None
    here: list[BackupHere]
    """Newest first; a device that keeps backups fetches the first."""
    copies: list[BackupWhere]
    """All that count, one a place, newest first."""


class BackupMade(BackupHere, frozen=True):
    """A backup that was made, verified and read back."""

    failed: list[str] = msgspec.field(default_factory=list)
    """Codes of what kept it from a target that is there; the backup itself is good."""


class StoredByHand(Request, frozen=True):
    """Where the machine's administrator has taken a copy; he looks himself whether that is another disk."""

    place: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    another_disk: bool


class StoredIn(Request, frozen=True):
    """A copy has been written, synced and read back, and has this digest."""

    sha256: Sha256
    by_hand: StoredByHand | None = None
    """Only at the unix socket; a paired device leaves it out and speaks for itself."""


class StoredOut(Answer, frozen=True):
    """What the hub has noted; durable when this answers."""

    place: str
    id: str
    counts: bool
    """Whether it ends the problem `no_backup_elsewhere` while it is young enough."""
