"""Child processes with captured output, free ports, and the one place where tests wait.

No test sleeps: it says what it waits for and for how long at most. `wait_for` and `wait_until` poll that
condition and fail with its name, so a slow machine makes a test slower and never makes it wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

T = TypeVar("T")

POLL_INTERVAL_S = 0.02
STOP_TIMEOUT_S = 10.0
ABORT_TIMEOUT_S = 2.0
OUTPUT_TAIL_CHARS = 4000


class RigError(AssertionError):
    """A rig could not reach the state a test asked for; the text says which and shows what was last seen."""


def wait_for(
    condition: Callable[[], T | None], timeout_s: float, what: str, *, interval_s: float = POLL_INTERVAL_S
) -> T:
    """Return the first truthy value of `condition`; raise `RigError` naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s  # noqa: TID251 - rigs wait for real processes in real time
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:  # noqa: TID251 - see above
            raise RigError(f"waited {timeout_s:g} s in vain for {what} (last seen: {value!r})")
        time.sleep(interval_s)  # noqa: TID251 - the one place in the tests that may


@overload
async def wait_until(
    condition: Callable[[], Awaitable[T | None]], timeout_s: float, what: str, *, interval_s: float = ...
) -> T: ...
@overload
async def wait_until(
    condition: Callable[[], T | None], timeout_s: float, what: str, *, interval_s: float = ...
) -> T: ...
async def wait_until(
    condition: Callable[[], Any], timeout_s: float, what: str, *, interval_s: float = POLL_INTERVAL_S
) -> Any:
    """Like `wait_for` for a running event loop; `condition` may be a coroutine function."""
    deadline = time.monotonic() + timeout_s  # noqa: TID251 - rigs wait for real processes in real time
    while True:
        answer = condition()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:  # noqa: TID251 - see above
            raise RigError(f"waited {timeout_s:g} s in vain for {what} (last seen: {value!r})")
        await asyncio.sleep(interval_s)  # noqa: TID251 - its twin for coroutines


def free_port(host: str = "127.0.0.1", *, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port number that nobody held a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def port_answers(host: str, port: int) -> bool:
    """Say whether something accepts TCP connections there now."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def require_tool(name: str, package: str) -> str:
    """Return the path of a program; a missing one is a failure that names its Debian package, never a skip."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise RigError(f"{name} is not installed; apt-get install {package}")
    return found


def run(*argv: str | Path, timeout_s: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; with `check`, an exit code other than 0 raises `RigError` with what it printed."""
    done = subprocess.run(
        [str(a) for a in argv], text=True, errors="replace", capture_output=True, timeout=timeout_s, check=False
    )
    if check and done.returncode != 0:
        raise RigError(f"{' '.join(map(str, argv))} gave {done.returncode}: {done.stdout}{done.stderr}")
    return done


class Child:
    """A child process whose output is kept in a file and which does not outlive its context.

    Output goes to a file and not to a pipe: a child that prints much never blocks on a test that does not read,
    and what it printed before a SIGKILL is all there. If this process itself is killed, the kernel kills the child.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        """Describe the child; nothing runs before `start`. `env` is added to this process's environment."""
        self.argv = [str(a) for a in argv]
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._stop_signal = stop_signal
        self._stop_timeout_s = stop_timeout_s
        self._dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._last_output = ("", "")

    @property
    def pid(self) -> int:
        """The process id of the running (or last) child."""
        if self._process is None:
            raise RigError(f"{self.argv[0]} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code of the last child; negative for the signal that ended it, None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> Self:
        """Start the child; output of an earlier run of the same object is kept and added to."""
        if self.running:
            raise RigError(f"{self.argv[0]} runs already as {self.pid}")
        if self._dir is None:
            self._dir = Path(tempfile.mkdtemp(prefix="hubd-child-"))
        lifeline = [require_tool("setpriv", "util-linux"), "--pdeathsig", "KILL", "--"]
        with (self._dir / "stdout").open("ab") as out, (self._dir / "stderr").open("ab") as err:
            self._process = subprocess.Popen(
                [*lifeline, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to the child alone."""
        os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP: the child keeps its sockets and answers nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: undo `freeze`."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL the child and everything it started; return when it is gone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(self._stop_timeout_s)

    def stop(self) -> int:
        """Ask the child to stop and return its exit code; one that does not is killed and that is an error."""
        if self._process is None:
            raise RigError(f"{self.argv[0]} was not started")
        if self.running:
            self.signal(self._stop_signal)
            self.signal(signal.SIGCONT)
        try:
            code = self._process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired as exc:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                self.signal(signal.SIGABRT)  # a Python program with its fault handler on says where it is
                self._process.wait(ABORT_TIMEOUT_S)
            self.kill()
            raise RigError(f"{self.argv[0]} did not stop in {self._stop_timeout_s:g} s\n{self.tail()}") from exc
        self.kill()  # what it may have left in its process group
        return code

    def wait(self, timeout_s: float) -> int:
        """Return the exit code of a child that ends by itself within `timeout_s`."""
        code = wait_for(
            lambda: None if self.returncode is None else (self.returncode,), timeout_s, f"the end of {self.argv[0]}"
        )
        return code[0]

    def stdout(self) -> str:
        """Everything printed to standard output so far."""
        return self._read("stdout")

    def stderr(self) -> str:
        """Everything printed to standard error so far."""
        return self._read("stderr")

    def tail(self) -> str:
        """The end of both outputs, for a failure message."""
        return f"stdout: {self.stdout()[-OUTPUT_TAIL_CHARS:]}\nstderr: {self.stderr()[-OUTPUT_TAIL_CHARS:]}"

    def wait_for_text(self, text: str, timeout_s: float) -> str:
        """Return the first whole line holding `text`, from either output; a child that ended first is an error."""

        def found() -> str | None:
            ended = not self.running
            whole = [
                line
                for kept in (self.stdout(), self.stderr())
                for line in kept.splitlines(keepends=True)
                if line.endswith("\n")
            ]
            for line in whole:
                if text in line:
                    return line.rstrip("\n")
            if ended:
                raise RigError(f"{self.argv[0]} ended with {self.returncode} before printing {text!r}\n{self.tail()}")
            return None

        try:
            return wait_for(found, timeout_s, f"{text!r} from {self.argv[0]}")
        except RigError as exc:
            raise RigError(f"{exc}\n{self.tail()}") from None

    def _read(self, name: str) -> str:
        if self._dir is None:
            return self._last_output[0 if name == "stdout" else 1]
        try:
            return (self._dir / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        """Kill what still runs and remove the kept output from the disk (it stays readable here)."""
        self.kill()
        if self._dir is not None:
            self._last_output = (self.stdout(), self.stderr())
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None

    def __enter__(self) -> Self:
        """Start the child unless it runs."""
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill and clean up, whatever happened."""
        self.close()
