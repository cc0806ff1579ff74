"""Power cuts without a machine to unplug: ext4 on a loop device over a disk with a volatile write cache.

    with PowerCutDisk() as disk:
        with disk.powered() as mount:
            with Child([...program writing below mount...]) as writer:
                writer.wait_for_text("ready", 10)
                cut = disk.cut("torn", seed=7, at="flush", after=12)
                writer.kill()
        with disk.powered() as mount:      # ext4 replays its journal here
            ...compare what is there with what `writer` printed before cut.at...

A SIGKILL alone would test nothing about disks: the page cache survives it. Needs root, FUSE and a loop device.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.rigs import voldisk
from tests.rigs.process import Child, RigError, require_tool, run, wait_for

Keep = Literal["none", "all", "subset", "torn"]
At = Literal["now", "write", "flush", "any"]

PREFIX = "hubd-powercut-"
DISK_BYTES = 48 << 20
STEP_TIMEOUT_S = 20.0
CUT_TIMEOUT_S = 15.0


class Unmountable(RigError):
    """The file system did not survive the cut."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What is known of a cut: when (CLOCK_MONOTONIC of this machine), how much was unflushed, how much is gone."""

    at: float
    unflushed: int
    lost: int
    flushes: int
    writes: int


class PowerCutDisk:
    """One disk image and its life: powered, cut, powered again. All is undone on leaving, also after a failure."""

    def __init__(self, *, size_bytes: int = DISK_BYTES, mount_options: str = "noatime") -> None:
        """Describe the disk; `mount_options` may switch barriers off to see what a lying disk does."""
        self._size_bytes = size_bytes
        self._mount_options = mount_options
        self._place: Path | None = None

    def __enter__(self) -> Self:
        """Make the image with an empty ext4."""
        if os.geteuid() != 0:
            raise RigError("the power-cut rig needs root (loop device and mount)")
        require_tool("fusermount3", "fuse3")
        sweep()
        self._place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        for name in ("fuse", "mount"):
            (self._place / name).mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        self.format()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the image; `powered` has unmounted everything before."""
        shutil.rmtree(self._base, ignore_errors=True)

    @property
    def _base(self) -> Path:
        if self._place is None:
            raise RigError("enter the disk's context first")
        return self._place

    @property
    def _image(self) -> Path:
        return self._base / "disk.img"

    def format(self) -> None:
        """Begin again with an empty file system (only without power)."""
        run(require_tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", self._image, timeout_s=STEP_TIMEOUT_S)

    @contextmanager
    def powered(self) -> Iterator[Path]:
        """Power on and mount; yields the mount point. Leaving without a cut is an orderly shutdown."""
        fuse, mount = self._base / "fuse", self._base / "mount"
        with ExitStack() as undo:
            program: list[str | Path] = [sys.executable, Path(voldisk.__file__), self._image, fuse]
            # mfusepy takes whichever it finds; the rig means the one of the package fuse3.
            server = Child(program, env={"FUSE_LIBRARY_NAME": "fuse3"})
            undo.callback(server.close)
            server.start()
            undo.callback(_stop_fuse, server, fuse)
            wait_for(lambda: (fuse / "disk").exists() or _ended(server), STEP_TIMEOUT_S, "the volatile disk")
            # A loop device made by mount goes away with the mount, whoever ends it.
            options = f"loop,{self._mount_options}"
            mounted = run("mount", "-t", "ext4", "-o", options, fuse / "disk", mount, check=False)
            if mounted.returncode != 0:
                raise Unmountable(mounted.stderr.strip())
            undo.callback(_unmount, mount)
            yield mount

    def cut(self, keep: Keep = "none", *, seed: int = 0, at: At = "now", after: int = 0) -> Cut:
        """Take the power away, at once or before the `after`-th write or flush of something; return when it is gone."""
        self.arm(keep, seed=seed, at=at, after=after)
        return self.wait_cut()

    def arm(self, keep: Keep = "none", *, seed: int = 0, at: At = "flush", after: int = 1) -> None:
        """Like `cut`, without waiting for it to happen."""
        command = {"keep": keep, "seed": seed, "at": at, "after": after}
        (self._base / "fuse" / "control").write_text(json.dumps(command), encoding="ascii")

    def wait_cut(self, timeout_s: float = CUT_TIMEOUT_S) -> Cut:
        """Wait until an armed cut has happened."""

        def happened() -> Cut | None:
            seen = json.loads((self._base / "fuse" / "control").read_text(encoding="ascii"))
            if "lost" not in seen:
                return None
            numbers = {name: int(seen[name]) for name in ("unflushed", "lost", "flushes", "writes")}
            return Cut(at=seen["cut_at"], **numbers)

        return wait_for(happened, timeout_s, "the cut")


def sweep() -> None:
    """Undo what a killed test run left: its FUSE server died with it, its mounts did not."""
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = place.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            for name in ("mount", "fuse"):
                run("umount", place / name, check=False)
            shutil.rmtree(place, ignore_errors=True)


def _ended(server: Child) -> bool:
    if not server.running:
        raise RigError(f"the volatile disk ended\n{server.tail()}")
    return False


def _unmount(mount: Path) -> None:
    """Unmount, waiting for a killed writer's last files to be closed."""
    wait_for(
        lambda: run("umount", mount, check=False).returncode == 0 or not os.path.ismount(mount),
        STEP_TIMEOUT_S,
        f"{mount} to be free (is a database in it still open?)",
    )


def _stop_fuse(server: Child, fuse: Path) -> None:
    """Unmount the FUSE file system (the loop device lets it go a moment later) and see its server end."""
    wait_for(
        lambda: run("umount", fuse, check=False).returncode == 0 or not os.path.ismount(fuse),
        STEP_TIMEOUT_S,
        f"{fuse} to be free",
    )
    server.wait(STEP_TIMEOUT_S)


def acknowledged_before(output: str, cut: Cut) -> list[str]:
    """What a writer acknowledged before the power went: its lines are `TEXT STAMP`, STAMP being CLOCK_MONOTONIC.

    A line stamped later proves nothing: the writer lived on for a moment with a dead disk. The last line may be half.
    """
    texts = []
    for line in output.splitlines(keepends=True):
        text, _, stamp = line.rstrip("\n").rpartition(" ")
        if line.endswith("\n") and text and float(stamp) < cut.at:
            texts.append(text)
    return texts


def run_and_cut(
    disk: PowerCutDisk,
    argv: Callable[[Path], Sequence[str | Path]],
    *,
    keep: Keep,
    seed: int,
    at: At = "flush",
    after: int = 1,
    ready_text: str = "\n",
    env: Mapping[str, str] | None = None,
) -> tuple[Cut, list[str]]:
    """Power on, run a writer until it has printed `ready_text`, cut; return what it had acknowledged.

    `argv` gets the mount point. A writer that ended by itself before the cut is an error, since it would prove nothing.
    """
    with disk.powered() as mount, Child(argv(mount), env=env) as writer:
        writer.wait_for_text(ready_text, STEP_TIMEOUT_S)
        if not writer.running:
            raise RigError(f"the writer ended before the cut\n{writer.tail()}")
        cut = disk.cut(keep, seed=seed, at=at, after=after)
        writer.kill()
        return cut, acknowledged_before(writer.stdout(), cut)
