"""Starts hubs and simulators quickly: one process imports the program once and forks a child for each start.

A fork is a process like any other (own memory, files, locks, pid) that was spared a second of imports; dozens of
starts in a test run are what this is for. Tests with few starts run `hubd` itself.

The protocol on the unix socket, one connection a child: `{"program", "argv", "wrappers", "output"}` in one line; back
come `{"pid"}` and, when the child has ended, `{"code"}`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
IMPORTED_ONCE = (
    "drivers.sim.caisse_ap",
    "drivers.sim.command",
    "drivers.sim.concert",
    "drivers.sim.escpos",
    "drivers.sim.ipp",
    "drivers.sim.modem",
    "drivers.sim.nexo.certificates",
    "drivers.sim.opi",
    "drivers.sim.poslink",
    "drivers.sim.scale",
    "drivers.sim.scanner",
    "drivers.sim.zvt",
    "drivers.zvt",
    "hubd.cli",
    "hubd.cli.app",
    "hubd.cli.journal",
    "hubd.daemon",
    "hubd.main",
    "hubd.store.replay",
    "hubd.store.verify",
    "local_api.page.app",
    "tests.crash.doomed",
)


def _become(wanted: dict[str, Any]) -> None:
    """Be the child: own session, own output, then the program to its end."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(wanted["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    sys.argv = [wanted["program"], *wanted["argv"]]
    code: int | str | None = 1
    try:
        if wanted["program"] == "hubctl":
            from hubd.cli import main as run
        elif wanted["program"].startswith("drivers.sim."):
            runpy.run_module(wanted["program"], run_name="__main__", alter_sys=True)
            return
        else:
            from hubd.main import main as run
            from tests.crash.doomed import wrap

            wrap(wanted["wrappers"])
        run()
        code = 0
    except SystemExit as exc:
        code = exc.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def serve(path: Path) -> None:
    """Fork for whoever connects, until killed."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    ended_read, ended_write = socket.socketpair()
    for end in (ended_read, ended_write):
        end.setblocking(False)
    signal.set_wakeup_fd(ended_write.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    selector.register(ended_read, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is ended_read:
                ended_read.recv(4096)
                _report(children)
            else:
                connection, _ = listening.accept()
                wanted = json.loads(connection.makefile().readline())
                pid = os.fork()
                if pid == 0:
                    for one in (listening, ended_read, ended_write, connection, *children.values()):
                        one.close()
                    _become(wanted)
                connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
                children[pid] = connection


def _report(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        connection = children.pop(pid)
        connection.sendall(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode() + b"\n")
        connection.close()


if __name__ == "__main__":
    for module in IMPORTED_ONCE:
        importlib.import_module(module)
    serve(Path(sys.argv[1]))
