"""Files that a rig puts into a machine of its own (a container, a virtual machine): gathered as one tar of root's.

What is put there is what an administrator installs: the hub's packages, its commands and its service files.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Protocol

from tests.rigs.process import run

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("hubd", "drivers", "sync", "local_api")


class Staged:
    """An empty tar that is filled file by file."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115 - closed when it is taken

    def archive(self) -> bytes:
        """The finished tar; nothing can be added any more."""
        self._tar.close()
        return self._buffer.getvalue()

    def add_file(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Put a file of root's at `path` inside; directories on the way keep the machine's own modes."""
        data = content.encode() if isinstance(content, str) else content
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode = len(data), mode
        self._tar.addfile(entry, io.BytesIO(data))

    def add_link(self, path: str, target: str) -> None:
        """Put a symbolic link at `path` inside."""
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._tar.addfile(entry)

    def add_tree(self, source: Path, path: str, *, byte_code: bool = False) -> None:
        """Copy a directory of the machine to `path` inside, readable for everybody."""

        def tidy(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
            if not byte_code and "__pycache__" in Path(entry.name).parts:
                return None
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            return entry

        self._tar.add(source, path.lstrip("/"), filter=tidy)


class Shell(Protocol):
    """A machine in which root can type."""

    def sh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command; one that fails is an error."""
        ...


def add_packages(machine: Staged, where: str) -> None:
    """Put the packages of this working tree into a directory inside."""
    for package in PACKAGES:
        machine.add_tree(REPOSITORY / package, f"{where}/{package}")


def add_compiled_packages(machine: Staged, where: str) -> None:
    """The same with the byte code of the distribution's Python, for a machine that compiles slowly."""
    with tempfile.TemporaryDirectory(prefix="hubd-compiled-") as directory:
        for package in PACKAGES:
            shutil.copytree(
                REPOSITORY / package, Path(directory) / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        settled = ["--invalidation-mode", "unchecked-hash", "-s", directory, "-p", where]
        run("/usr/bin/python3", "-m", "compileall", "-q", "-j", "2", *settled, directory)
        for package in PACKAGES:
            machine.add_tree(Path(directory) / package, f"{where}/{package}", byte_code=True)


def add_commands(machine: Staged, prefix: str) -> None:
    """Put `hubd` and `hubctl` where pip would, for the interpreter of the virtual environment at `prefix`."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, entry in project["scripts"].items():
        module, function = entry.split(":")
        start = f"#!{prefix}/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        machine.add_file(f"{prefix}/bin/{name}", start, 0o755)


def add_service_files(machine: Staged) -> None:
    """Put the files of systemd/ to the places its README names."""
    for name, path in {
        "hubd.service": "/etc/systemd/system/hubd.service",
        "hubd.sysusers": "/usr/lib/sysusers.d/hubd.conf",
        "hubd.tmpfiles": "/usr/lib/tmpfiles.d/hubd.conf",
        "60-hubd.rules": "/etc/udev/rules.d/60-hubd.rules",
    }.items():
        machine.add_file(path, (REPOSITORY / "systemd" / name).read_bytes())


def set_up(machine: Shell) -> None:
    """What an administrator does once after copying the files: user, directories, command."""
    machine.sh("mkdir -p /usr/local/bin && ln -sf /opt/hubd/bin/hubctl /usr/local/bin/hubctl")
    machine.sh("systemd-sysusers && systemd-tmpfiles --create hubd.conf && systemctl daemon-reload")
