"""A USB stick: ext4 on a loop device, mounted where the test wants it. Needs root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rigs.process import require_tool, run

STICK_BYTES = 64 << 20


@contextmanager
def stick(place: Path, name: str = "STICK") -> Iterator[Path]:
    """Plug one in below `place`, and pull it out in order."""
    image, mount = place / f"{name}.img", place / name
    with image.open("wb") as file:
        file.truncate(STICK_BYTES)
    run(require_tool("mkfs.ext4", "e2fsprogs"), "-q", image)
    mount.mkdir()
    run(require_tool("mount", "mount"), "-o", "loop", image, mount)
    try:
        yield mount
    finally:
        run(require_tool("umount", "mount"), mount)
