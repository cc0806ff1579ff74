"""A real systemd as PID 1, in a container over an overlay of this machine's own root, which stays unchanged.

Needs root and Debian's systemd, systemd-sysv, systemd-container, dbus and util-linux. The overlay and its upper layer
live in a mount namespace of the container's own, so the machine never sees a mount of the rig, and when the container
ends (or this process is killed) the kernel takes all of it away.

What is real here: the service manager, Type=notify, the watchdog, restarts, journald, sysusers, tmpfiles, the file and
system-call sandbox. What is not enforced: MemoryMax, TasksMax, IPAddressDeny and device rules, which need a machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.rigs import staged
from tests.rigs.process import Child, RigError, require_tool, run, wait_for
from tests.rigs.staged import Staged, add_commands, add_packages, add_service_files

UPPER_SIZE = "512m"
BOOT_TIMEOUT_S = 60.0
HALT_TIMEOUT_S = 30.0
RUN_TIMEOUT_S = 60.0
# One container at a time on a machine: with --keep-unit two of them would share a cgroup.
LOCK_FILE = Path(tempfile.gettempdir()) / "hubd-nspawn.lock"

# $1: the staged files as a tar, $2: an empty directory, $3: size of the upper layer; the rest: the container's command.
BOOT_SCRIPT = """
set -eu
staged=$1; place=$2; size=$3; shift 3
mount -t tmpfs -o "size=$size,mode=0755" tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
tar -x --no-overwrite-dir --same-owner -C "$place/root" -f "$staged"
exec "$@"
"""


class Nspawn(Staged):
    """A booted machine. Stage files with `add_file` and `bind`, then enter the context: it is up when that returns."""

    def __init__(self) -> None:
        """Prepare an empty staging area; nothing is mounted or started yet."""
        super().__init__()
        self._binds: list[str] = []
        self._place: Path | None = None
        self._lock: IO[str] | None = None
        self._child: Child | None = None
        self._leader = 0
        self.add_link("/etc/systemd/system/default.target", "/lib/systemd/system/basic.target")
        # Consoles and terminals of the real machine have no business in a container.
        for unit in ("console-getty.service", "getty.target", "systemd-udevd.service", "systemd-timesyncd.service"):
            self.add_link(f"/etc/systemd/system/{unit}", "/dev/null")

    # -- before the boot ------------------------------------------------------

    def bind(self, source: Path, path: str) -> None:
        """Show a directory of the machine read-only at `path` inside, whatever lies above it here."""
        self._binds.append(f"--bind-ro={source}:{path}")

    # -- running --------------------------------------------------------------

    def __enter__(self) -> Self:
        """Boot and return when systemd says that it is running."""
        if os.geteuid() != 0:
            raise RigError("the systemd rig needs root (systemd-nspawn over an overlay)")
        nspawn = require_tool("systemd-nspawn", "systemd-container")
        self._lock = LOCK_FILE.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._place = Path(tempfile.mkdtemp(prefix="hubd-nspawn-"))
            staged = self._place / "staged.tar"
            staged.write_bytes(self.archive())
            root = self._place / "place"
            root.mkdir()
            # --register=no and --keep-unit: this machine may have no systemd of its own to register with.
            container: list[str | Path] = [
                nspawn,
                "-q",
                "-D",
                root / "root",
                "--register=no",
                "--keep-unit",
                "--private-network",
            ]
            container += [f"--machine=hubd-rig-{os.getpid()}", "--console=pipe", "--boot", *self._binds]
            argv: list[str | Path] = [require_tool("unshare", "util-linux"), "--mount", "--propagation", "private"]
            argv += ["/bin/sh", "-c", BOOT_SCRIPT, "boot", staged, root, UPPER_SIZE, *container]
            self._child = Child(argv, stop_signal=signal.SIGTERM).start()
            self._leader = wait_for(self._find_leader, BOOT_TIMEOUT_S, "the container's PID 1")
            wait_for(self._is_up, BOOT_TIMEOUT_S, "systemd to be running", interval_s=0.1)
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Switch the machine off; if it does not go, kill it."""
        try:
            self.halt()
        finally:
            self._clean_up()

    def halt(self) -> None:
        """Ask PID 1 for a power-off, as a pressed power button would, and wait for the container's end."""
        if self._child is None or not self._child.running:
            return
        os.kill(self._leader, signal.SIGRTMIN + 4)
        wait_for(lambda: not self._child or not self._child.running, HALT_TIMEOUT_S, "the container's power-off")

    def _clean_up(self) -> None:
        """Leave no process and no directory, even after a failed boot."""
        try:
            if self._child is not None:
                self._child.close()
        finally:
            if self._place is not None:
                shutil.rmtree(self._place, ignore_errors=True)
            if self._lock is not None:
                self._lock.close()

    def console(self) -> str:
        """What the container printed so far; the first thing to read when a boot fails."""
        return "" if self._child is None else self._child.tail()

    def _find_leader(self) -> int | None:
        assert self._child is not None
        if not self._child.running:
            raise RigError(f"the container ended while booting\n{self.console()}")
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            except (OSError, ValueError):
                continue  # a process that ended while we looked
            # PID 1 of its own namespace, child of the container's process: nothing else is both.
            if fields.get("PPid") == str(self._child.pid) and fields.get("NSpid", "").split()[-1:] == ["1"]:
                return int(status.parent.name)
        return None

    def _is_up(self) -> bool:
        assert self._child is not None
        if not self._child.running:
            raise RigError(f"the container ended while booting\n{self.console()}")
        return self.sh("systemctl is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def sh(
        self, command: str, *, check: bool = True, timeout_s: float = RUN_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside as root; with `check`, a failure raises `RigError` with what it printed."""
        enter = [require_tool("nsenter", "util-linux"), "-t", str(self._leader)]
        enter += ["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]
        clean = ["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SYSTEMD_COLORS=0"]
        return run(*enter, *clean, "/bin/sh", "-c", command, check=check, timeout_s=timeout_s)

    def path(self, inside: str) -> Path:
        """The path by which this process reaches a file of the running container."""
        return Path(f"/proc/{self._leader}/root") / inside.lstrip("/")

    # -- the service manager --------------------------------------------------

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """The named properties of a unit, as `systemctl show` gives them."""
        wanted = " ".join(f"-p {shlex.quote(p)}" for p in properties)
        text = self.sh(f"systemctl show {wanted} -- {shlex.quote(unit)}").stdout
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def wait_for_state(self, unit: str, state: str, timeout_s: float) -> dict[str, str]:
        """Wait until a unit's ActiveState is `state`; a unit that failed instead is reported with its journal."""
        names = ("ActiveState", "SubState", "Result", "NRestarts", "MainPID", "StatusText")

        def reached() -> dict[str, str] | None:
            seen = self.show(unit, *names)
            return seen if seen["ActiveState"] == state else None

        try:
            return wait_for(reached, timeout_s, f"{unit} to be {state}", interval_s=0.1)
        except RigError as exc:
            raise RigError(f"{exc}\n{self.show(unit, *names)}\n{self.journal_text(unit)}") from None

    def journal(self, unit: str) -> list[dict[str, str]]:
        """All journal records of a unit since boot, each with all its fields, and the manager's records about it."""
        text = self.sh(f"journalctl --sync && journalctl -b -u {shlex.quote(unit)} -o json --no-pager").stdout
        return [json.loads(line) for line in text.splitlines()]

    def journal_text(self, unit: str) -> str:
        """The last lines of a unit's journal, for failure messages."""
        return self.sh(f"journalctl -b -u {shlex.quote(unit)} -n 60 --no-pager", check=False).stdout


def add_interpreter(machine: Nspawn, prefix: str) -> None:
    """Give `machine` a virtual environment at `prefix` with this interpreter and all its installed dependencies.

    The interpreter and the clone may lie where a service cannot look (/root, /home, /tmp), so nothing inside points
    at them: libraries are shown at paths of their own, and the project's packages are copied.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix).resolve()
    binary = Path("/usr/bin") / version
    if base != Path("/usr"):
        machine.bind(base, f"{prefix}-python")
        binary = Path(f"{prefix}-python/bin") / version
        # An interpreter with a shared library finds it by an absolute path that is not there inside.
        machine.add_file("/etc/ld.so.conf.d/000-hubd-rig.conf", f"{prefix}-python/lib\n")
    machine.add_file(f"{prefix}/pyvenv.cfg", f"home = {binary.parent}\ninclude-system-site-packages = false\n")
    machine.add_link(f"{prefix}/bin/python", str(binary))
    machine.bind(Path(sysconfig.get_path("purelib")).resolve(), f"{prefix}/dependencies")
    # Directories named by a .pth file are not searched for further .pth files: an editable install stays outside.
    site = f"{prefix}/lib/{version}/site-packages"
    machine.add_file(f"{site}/hubd-rig.pth", f"{prefix}/source\n{prefix}/dependencies\n")


def add_project(machine: Nspawn, prefix: str = "/opt/hubd") -> None:
    """Install this working tree at `prefix` and its service files where an administrator puts them."""
    add_interpreter(machine, prefix)
    add_packages(machine, f"{prefix}/source")
    add_commands(machine, prefix)
    add_service_files(machine)


def set_up(machine: Nspawn) -> None:
    """What an administrator does once after copying the files, and the libraries of a strange interpreter."""
    machine.sh("ldconfig")
    staged.set_up(machine)
