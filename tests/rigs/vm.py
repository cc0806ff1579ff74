"""A whole machine in QEMU, without hardware help: a kernel with a real USB stack, udev, systemd and cgroups of its own.

It starts in a second from the snapshot of `tests.rigs.vm_image`. The agent in the guest obeys over a virtio port;
devices are gadgets of the guest's kernel (any maker's), or QEMU's USB serial adapter, whose bytes come here.
The guest has no network. Its Python is about ten times slower than the host's.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.rigs.process import Child, RigError, wait_for
from tests.rigs.vm_hardware import DISK, hardware

SNAPSHOT = "booted"
COMMAND_TIMEOUT_S = 60.0
SNAPSHOT_START_S = 30.0


class VirtualMachine:
    """A context: the machine runs inside. `fresh` boots it on the image's own disk, which the snapshot is made of."""

    def __init__(self, image: Path, *, fresh: bool = False) -> None:
        self._image = image
        self._fresh = fresh
        self._place = Path(tempfile.mkdtemp(prefix="hubd-vm-"))
        self._adapters = itertools.count()
        self._child: Child | None = None
        self._agent: _Lines | None = None
        self._monitor: _Lines | None = None

    def __enter__(self) -> Self:
        """Start it; a machine from the snapshot obeys when this returns."""
        try:
            self._start()
            if not self._fresh:
                self.wait_for_agent(SNAPSHOT_START_S)
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut its power."""
        self._clean_up()

    def _start(self) -> None:
        disk = self._image / DISK
        if not self._fresh:
            (self._place / "root.ext4").symlink_to(self._image / "root.ext4")
            disk = Path(shutil.copyfile(disk, self._place / DISK))
        agent, monitor = self._place / "agent", self._place / "monitor"
        argv = hardware(self._image, disk, agent, monitor, self._place / "console")
        argv += [] if self._fresh else ["-loadvm", SNAPSHOT]
        self._child = Child(argv).start()
        wait_for(lambda: self._alive() and monitor.exists() and agent.exists(), SNAPSHOT_START_S, "QEMU's sockets")
        self._monitor = _Lines(monitor)
        self._monitor.read(SNAPSHOT_START_S)  # its greeting
        self.monitor("qmp_capabilities")
        self._agent = _Lines(agent)

    def _alive(self) -> bool:
        assert self._child is not None
        if not self._child.running:
            raise RigError(f"QEMU ended\n{self._child.tail()}\n{self.console()}")
        return True

    def _clean_up(self) -> None:
        for line in (self._agent, self._monitor):
            if line is not None:
                line.close()
        if self._child is not None:
            self._child.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def console(self) -> str:
        """What the guest's kernel and systemd have printed; the first thing to read when it does not come up."""
        path = self._place / "console"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    # -- the machine ---------------------------------------------------------------------------------------------------

    def monitor(self, command: str, **arguments: object) -> Any:
        """One command of QEMU's monitor (QMP)."""
        assert self._monitor is not None
        self._monitor.write({"execute": command, "arguments": arguments})
        while True:
            answer = self._monitor.read(COMMAND_TIMEOUT_S)
            if "error" in answer:
                raise RigError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def waits(self) -> dict[str, float]:
        """Seconds for which each thread of the machine had something to do and the host let it wait (`schedstat`)."""
        assert self._child is not None
        waits = {}
        for thread in Path(f"/proc/{self._child.pid}/task").iterdir():
            try:
                waits[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread of QEMU's pool that has just ended
        return waits

    def save(self, disk: Path) -> None:
        """Keep the running machine as a snapshot in its disk, and end it."""
        said = self.monitor("human-monitor-command", **{"command-line": f"savevm {SNAPSHOT}"})
        if said:
            raise RigError(f"{disk}: {said}")
        self.monitor("quit")
        assert self._child is not None
        self._child.wait(COMMAND_TIMEOUT_S)

    # -- the guest -----------------------------------------------------------------------------------------------------

    def wait_for_agent(self, timeout_s: float) -> None:
        """Return once the guest obeys."""
        try:
            self._do("run", timeout_s, argv=["true"], timeout_s=timeout_s)
        except RigError as error:
            raise RigError(f"the guest does not obey: {error}\n{self.console()}") from None

    def _do(self, what: str, wait_s: float, **arguments: object) -> dict[str, Any]:
        assert self._agent is not None
        self._agent.write({"do": what, **arguments})
        answer = self._agent.read(wait_s + COMMAND_TIMEOUT_S)
        if "error" in answer:
            raise RigError(f"{what} {arguments if what != 'unpack' else ''}: {answer['error']}")
        return answer

    def sh(
        self, command: str, *, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the guest as root; with `check`, a failure raises `RigError` with what it printed."""
        done = self._do("run", timeout_s, argv=["/bin/sh", "-c", command], timeout_s=timeout_s)
        if check and done["code"] != 0:
            raise RigError(f"{command} gave {done['code']}: {done['out']}{done['err']}")
        return subprocess.CompletedProcess(command, done["code"], done["out"], done["err"])

    def unpack(self, archive: bytes) -> None:
        """Put the files of a tar into the guest's root."""
        self._do("unpack", COMMAND_TIMEOUT_S, archive=base64.b64encode(gzip.compress(archive, 1)).decode(), where="/")

    def ask(self, path: str, say: str, *, until: str = "", timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Say something on a unix socket of the guest; return what is heard until `until` or the end."""
        heard: str = self._do("ask", timeout_s, path=path, say=say, until=until, timeout_s=timeout_s)["heard"]
        return heard

    # -- USB -----------------------------------------------------------------------------------------------------------

    def make_gadget(
        self, name: str, product: str, functions: Sequence[str], maker: str, model: str, number: str = ""
    ) -> None:
        """Describe a device; `product` is `04b8:0202`, functions are serial, printer, scanner and keyboard."""
        vid, _, pid = product.partition(":")
        described = {"maker": maker, "model": model, "number": number}
        self._do("make_gadget", 0, name=name, vid=vid, pid=pid, functions=[*functions], **described)

    def plug(self, name: str, port: int) -> list[str]:
        """Plug a gadget into one of the `DUMMY_PORTS` ports; returns the nodes by which its device side is played."""
        nodes: list[str] = self._do("plug", 0, name=name, port=port)["nodes"]
        return nodes

    def pull(self, name: str, *, forget: bool = False) -> None:
        """Pull a gadget in the middle of whatever it does; with `forget`, it is no more."""
        self._do("pull", 0, name=name, forget=forget)

    def plug_adapter(self, name: str, number: str) -> socket.socket:
        """Plug in QEMU's USB serial adapter (FTDI 0403:6001) with this serial number; returns the line's other end."""
        line_id = f"{name}-{next(self._adapters)}"  # QEMU frees the old one when it likes
        path = self._place / line_id
        address = {"type": "unix", "data": {"path": str(path)}}
        backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        self.monitor("chardev-add", id=line_id, backend=backend)
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(path))
        self.monitor("device_add", driver="usb-serial", id=name, chardev=line_id, serial=number, bus="xhci.0")
        return line

    def pull_adapter(self, name: str) -> None:
        """Pull it."""
        self.monitor("device_del", id=name)


class _Lines:
    """A unix socket on which each line is one JSON object."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._heard = b""

    def write(self, what: dict[str, object]) -> None:
        self._socket.settimeout(COMMAND_TIMEOUT_S)
        self._socket.sendall(json.dumps(what).encode() + b"\n")

    def read(self, timeout_s: float) -> dict[str, Any]:
        self._socket.settimeout(timeout_s)
        while b"\n" not in self._heard:
            try:
                part = self._socket.recv(1 << 16)
            except TimeoutError:
                raise RigError(f"no answer within {timeout_s:g} s; so far {self._heard[-200:]!r}") from None
            if not part:
                raise RigError("the machine has ended")
            self._heard += part
        line, self._heard = self._heard.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._socket.close()
