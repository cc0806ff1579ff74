"""A disk with a volatile write cache, as a file in a FUSE file system; a program: `voldisk.py IMAGE MOUNTPOINT`.

`disk` is what a loop device is put on. What is written to it stays in memory until the block layer sends a FLUSH, which
the loop driver turns into an fsync of this file. Writing a command to `control` takes the power away, now or just
before the k-th write or flush from now; from then on every access is an I/O error, and IMAGE holds what a real disk
would have kept: everything flushed, plus as much of the rest as the command says. Reading `control` gives the counts.

The command is one JSON object: {"keep": "none" | "all" | "subset" | "torn", "seed": 1,
"at": "now" | "write" | "flush" | "any", "after": 3}.
"""

from __future__ import annotations

import errno
import json
import random  # noqa: TID251 - the seed comes from the test
import stat
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mfusepy

SECTOR_BYTES = 512
CONTROL_FILE_BYTES = 4096
DISK, CONTROL = "/disk", "/control"
DISK_HANDLE, CONTROL_HANDLE = 1, 2


@dataclass
class Plan:
    """When the power goes and which unflushed writes the disk had already put down by then."""

    keep: str = "none"
    seed: int = 0
    at: str = "now"
    after: int = 0


@dataclass
class VolatileCache:
    """The disk itself, without FUSE: what a reader sees, what would survive, and the writes in between."""

    seen: bytearray
    durable: bytearray = field(init=False)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=lambda: {"writes": 0, "flushes": 0})
    plan: Plan | None = None
    dead: bool = False

    def __post_init__(self) -> None:
        """Begin with everything durable."""
        self.durable = bytearray(self.seen)

    def tick(self, kind: str) -> None:
        """Count one access towards an armed cut, and cut when it is the one."""
        if self.plan is None or self.dead or self.plan.at not in (kind, "any"):
            return
        self.plan.after -= 1
        if self.plan.after <= 0:
            self.cut(self.plan)

    def write(self, data: bytes, offset: int) -> None:
        """Take a write into the volatile cache."""
        self.tick("write")
        self._refuse_if_dead()
        self.seen[offset : offset + len(data)] = data
        self.pending.append((offset, data))
        self.counts["writes"] += 1

    def flush(self) -> None:
        """Make everything written so far durable. Two flushes in a row are one moment: the second changes nothing."""
        if self.pending:
            self.tick("flush")
        self._refuse_if_dead()
        for offset, data in self.pending:
            self.durable[offset : offset + len(data)] = data
        self.pending.clear()
        self.counts["flushes"] += 1

    def read(self, size: int, offset: int) -> bytes:
        """Read through the cache."""
        self._refuse_if_dead()
        return bytes(self.seen[offset : offset + size])

    def cut(self, plan: Plan) -> None:
        """Take the power away: decide once, for each unflushed write, whether it had reached the medium."""
        rng = random.Random(plan.seed)
        self.dead = True
        # Before any work: an acknowledgement stamped later than this is not one that a till got before the cut.
        self.counts["cut_at"] = time.monotonic()  # noqa: TID251 - compared with the writer's stamps on this machine
        self.counts["unflushed"] = len(self.pending)
        lost = 0
        for offset, whole in self.pending:
            kept = whole
            if plan.keep == "none" or (plan.keep in ("subset", "torn") and rng.random() < 0.5):
                kept = b""
            elif plan.keep == "torn" and len(whole) > SECTOR_BYTES:
                kept = whole[: SECTOR_BYTES * rng.randrange(1, len(whole) // SECTOR_BYTES + 1)]
            self.durable[offset : offset + len(kept)] = kept
            lost += len(kept) < len(whole)
        self.counts["lost"] = lost

    def _refuse_if_dead(self) -> None:
        if self.dead:
            raise mfusepy.FuseOSError(errno.EIO)


class VolatileDisk(mfusepy.Operations):  # type: ignore[misc, unused-ignore]  # mfusepy's base is untyped in some releases
    """The two files. FUSE calls from several threads, so one mutex covers the cache."""

    use_ns = True

    def __init__(self, image: Path) -> None:
        """Load the image; it is written back once, at the cut or the end."""
        self._image = image
        self._mutex = threading.Lock()
        self._cache = VolatileCache(bytearray(image.read_bytes()))

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """Describe the root and its two files."""
        common = {"st_uid": 0, "st_gid": 0, "st_atime": 0, "st_mtime": 0, "st_ctime": 0, "st_nlink": 1}
        if path == "/":
            return {**common, "st_mode": stat.S_IFDIR | 0o755}
        if path == DISK:
            return {**common, "st_mode": stat.S_IFREG | 0o600, "st_size": len(self._cache.seen)}
        if path == CONTROL:
            return {**common, "st_mode": stat.S_IFREG | 0o600, "st_size": CONTROL_FILE_BYTES}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, path: str, fh: int) -> list[str]:
        """List the two files."""
        return [".", "..", DISK[1:], CONTROL[1:]]

    def open(self, path: str, flags: int) -> int:
        """Give each file its constant handle."""
        return DISK_HANDLE if path == DISK else CONTROL_HANDLE

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Accept O_TRUNC on the control file; the disk keeps its size."""
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Read the disk, or the counts as one JSON object."""
        with self._mutex:
            if fh == CONTROL_HANDLE:
                return json.dumps(self._cache.counts).encode().ljust(CONTROL_FILE_BYTES)[offset : offset + size]
            return self._cache.read(size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Write the disk, or arm a cut."""
        with self._mutex:
            if fh == CONTROL_HANDLE:
                plan = Plan(**json.loads(data))
                if plan.at == "now":
                    self._cache.cut(plan)
                else:
                    self._cache.plan = plan
            else:
                self._cache.write(bytes(data), offset)
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """The FLUSH of the block layer."""
        with self._mutex:
            if fh == DISK_HANDLE:
                self._cache.flush()
        return 0

    def destroy(self, path: str) -> Any:
        """At unmount: leave on the image what the disk would have kept (all of it after an orderly end)."""
        if not self._cache.dead:
            self._cache.flush()
        self._image.write_bytes(self._cache.durable)


if __name__ == "__main__":
    mfusepy.FUSE(VolatileDisk(Path(sys.argv[1])), sys.argv[2], foreground=True, nothreads=False, direct_io=False)
