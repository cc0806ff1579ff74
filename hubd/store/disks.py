"""Which disk a directory lies on: a copy on the disk that it is to survive is no copy.

The device number of a file system does not say it: two partitions, an encrypted volume and a subvolume have numbers of
their own and die with one disk. The kernel knows what each block device is made of; a network share is elsewhere by
itself, and what lies in memory is gone with the power. A loop device counts as the disk that it pretends to be.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec import Struct

SYS = Path("/sys")
MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
LAYERS_MAX = 8
"""Volumes on volumes: partition, RAID, LVM, encryption and a spare few."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(Struct, frozen=True):
    """One line of mountinfo."""

    point: str
    kind: str
    source: str
    device: str
    """major:minor as the mount has it; `0:n` where there is no block device behind."""


def is_another_disk(folder: Path, home: Path, *, sys: Path = SYS, mounts: Path = MOUNTS) -> bool:
    """Whether what lies in `folder` survives the disk that `home` is on. Both are looked up where they are mounted."""
    there, here = _mount_of(folder, mounts), _mount_of(home, mounts)
    if there is None or here is None:
        return folder.stat().st_dev != home.stat().st_dev
    if there.kind in IN_MEMORY:
        return False
    return not _disks(there, sys) & _disks(here, sys)


def _mount_of(path: Path, mounts: Path) -> Mount | None:
    """The mount that the path is reached by: the deepest one, and of several at one place the last."""
    real = path.resolve()
    try:
        lines = mounts.read_text("utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: Mount | None = None
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, more = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(more) < 2:
            continue
        mount = Mount(_plain(fields[4]), more[0], _plain(more[1]), fields[2])
        if real.is_relative_to(mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda escaped: chr(int(escaped[1], 8)), text)


def _disks(mount: Mount, sys: Path) -> frozenset[str]:
    """Names of the disks under a file system; for one without, a name that only the same file system has."""
    number = mount.device
    try:
        if number.startswith("0:") and mount.source.startswith("/dev/"):
            device = os.stat(mount.source).st_rdev
            number = f"{os.major(device)}:{os.minor(device)}"
        place = (sys / "dev" / "block" / number).resolve(strict=True)
    except OSError:
        return frozenset({f"{mount.kind}:{mount.source}"})
    return _under(place, LAYERS_MAX)


def _under(place: Path, layers: int) -> frozenset[str]:
    disk = place.parent if (place / "partition").exists() else place
    parts = place / "slaves"
    below = sorted(parts.iterdir()) if parts.is_dir() and layers else []
    if not below:
        return frozenset({disk.name})
    return frozenset().union(*(_under(part.resolve(), layers - 1) for part in below))
