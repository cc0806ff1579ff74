"""Runs in the virtual machine, under its own Python, and does what the test on the host asks; see `tests.rigs.vm`.

One JSON line a request, one a reply, over a virtio port. Nothing of the project is imported here.
"""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable
from typing import Any

import vm_gadget

PORT = "/dev/virtio-ports/hubd.rig"
READ_BYTES = 1 << 16
IDLE_S = 0.02


def run(argv: list[str], timeout_s: float) -> dict[str, Any]:
    """A program to its end. One that takes too long is killed, which is exit code -9."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
    return {"code": process.returncode, "out": out.decode(errors="replace"), "err": err.decode(errors="replace")}


def unpack(archive: str, where: str) -> dict[str, Any]:
    """A tar of the host's, with its owners and modes."""
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive))) as tar:
        tar.extractall(where, numeric_owner=True)
    return {}


def ask(path: str, say: str, until: str, timeout_s: float) -> dict[str, Any]:
    """Say something on a unix socket and read until this text has come or the other side has hung up."""
    heard = b""
    deadline = time.monotonic() + timeout_s  # noqa: TID251 - real sockets in real time
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_s)
        line.connect(path)
        line.sendall(say.encode())
        while not (until and until.encode() in heard):
            line.settimeout(max(0.01, deadline - time.monotonic()))  # noqa: TID251 - see above
            part = line.recv(READ_BYTES)
            if not part:
                break
            heard += part
    return {"heard": heard.decode(errors="replace")}


DEEDS: dict[str, Callable[..., dict[str, Any]]] = {
    "run": run,
    "unpack": unpack,
    "ask": ask,
    "make_gadget": vm_gadget.make,
    "plug": vm_gadget.plug,
    "pull": vm_gadget.pull,
}


def main() -> None:
    """Obey for ever. What goes wrong is the test's to judge."""
    port = os.open(PORT, os.O_RDWR)
    parts: list[bytes] = []
    while True:
        part = os.read(port, READ_BYTES)
        if not part:  # nobody holds the other end
            time.sleep(IDLE_S)  # noqa: TID251 - there is nothing to wait for
        parts.append(part)
        if not part.endswith(b"\n"):  # the test waits for the reply before it asks again
            continue
        request = json.loads(b"".join(parts))
        parts.clear()
        try:
            reply = DEEDS[request.pop("do")](**request)
        except (OSError, ValueError, TypeError, KeyError, tarfile.TarError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        answer = json.dumps(reply).encode() + b"\n"
        while answer:
            answer = answer[os.write(port, answer) :]


main()
