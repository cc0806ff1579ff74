"""Bytes that reach the flash for one payment, counted by the block device below the file system.

Run as root by `python -m bench.wear [--full] [--record]`: it mounts a file of its own through a loop device, so that
nobody else's writes are counted.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.command import Options, main
from bench.machine import BenchError, directory, program
from bench.measure import Report, at_most, table
from bench.queue_throughput import RECORD_BYTES
from bench.shop import shop

IMAGE_BYTES = 1 << 30
SECTOR_BYTES = 512
"""The unit of the kernel's counters, whatever the device."""
GROUP = 16


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.strip()} (this bench mounts a disk: run it as root)")
    return done.stdout.strip()


class Disk:
    """A file system on a loop device of its own."""

    def __init__(self, device: str, place: Path) -> None:
        self.place = place
        self._counters = Path("/sys/block") / Path(device).name / "stat"

    def written(self) -> int:
        """Bytes written to the device since it appeared, everything in memory included."""
        os.sync()
        return int(self._counters.read_text("ascii").split()[6]) * SECTOR_BYTES


@contextmanager
def disk(base: Path) -> Iterator[Disk]:
    image, place = base / "disk.image", base / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _run(program("mkfs.ext4", "e2fsprogs"), "-q", "-F", image)
    device = _run(program("losetup", "mount"), "--find", "--show", image)
    try:
        _run(program("mount", "mount"), "-o", "noatime", device, place)
        try:
            yield Disk(device, place)
        finally:
            _run(program("umount", "mount"), place)
    finally:
        _run(program("losetup", "mount"), "--detach", device)


def raw(here: Disk, records: int, group: int) -> float:
    """The floor: records appended to a file that has its size already, one flush a group."""
    path = here.place / f"raw-{group}.log"
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(file, bytes(records * RECORD_BYTES))
        os.fsync(file)
        os.lseek(file, 0, os.SEEK_SET)
        before = here.written()
        for _ in range(records // group):
            os.write(file, b"x" * RECORD_BYTES * group)
            os.fdatasync(file)
        return (here.written() - before) / records
    finally:
        os.close(file)
        path.unlink()


async def payments(here: Disk, count: int, group: int) -> float:
    """Cash payments in groups that arrive together, in a store that has some thousand already; checkpoints included."""
    folder = here.place / f"hub-{group}"
    folder.mkdir()
    async with shop(folder) as made:
        for number in range(0, 5_000, 500):
            await asyncio.gather(*(made.cash(number + i) for i in range(500)))
        before = here.written()
        for number in range(0, count, group):
            await asyncio.gather(*(made.cash(number + i) for i in range(group)))
        return (here.written() - before) / count


def report(options: Options) -> Report:
    records = 8_000 if options.full else 2_000
    with directory() as base, disk(base) as here:
        floor = {group: raw(here, records, group) for group in (1, GROUP)}
        ours = {group: asyncio.run(payments(here, records, group)) for group in (1, GROUP)}
    rows = [
        ("raw preallocated log", floor[1], floor[GROUP]),
        ("hubd, cash payment (entry, receipt number, rows, totals)", ours[1], ours[GROUP]),
    ]
    head = ("what is written", "bytes a payment, one at a time", f"bytes a payment, in groups of {GROUP}")
    return Report(
        "wear",
        "Bytes that reach the flash",
        "Counted at a loop device with ext4, journal of the file system included.\n\n" + table(head, rows),
        (
            at_most("alone / raw log, alone", 6.0, ours[1] / floor[1]),
            at_most(f"in groups of {GROUP} / raw log, alone", 1.5, ours[GROUP] / floor[1]),
        ),
    )


if __name__ == "__main__":
    main(report)
