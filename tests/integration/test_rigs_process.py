"""Child processes of the rigs: their output is all there, they end when told, and waiting has a limit that bites."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.rigs.process import Child, RigError, free_port, port_answers, require_tool, run, wait_for, wait_until

PYTHON = sys.executable
STEP_TIMEOUT_S = 10.0
FOREVER = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\nwhile 1: signal.pause()"
)


def test_waiting_returns_the_value_and_fails_by_name() -> None:
    answers = iter([None, 0, "there"])
    assert wait_for(lambda: next(answers), STEP_TIMEOUT_S, "it") == "there"
    with pytest.raises(RigError, match="in vain for a thing that never comes"):
        wait_for(lambda: None, 0.05, "a thing that never comes")


async def test_waiting_in_a_loop_takes_functions_and_coroutines() -> None:
    async def soon() -> str:
        return "there"

    assert await wait_until(soon, STEP_TIMEOUT_S, "a coroutine") == "there"
    assert await wait_until(lambda: "here", STEP_TIMEOUT_S, "a function") == "here"
    with pytest.raises(RigError, match="nothing"):
        await wait_until(lambda: None, 0.05, "nothing")


def test_output_is_kept_after_sigkill() -> None:
    with Child([PYTHON, "-c", "import sys; print('partial', file=sys.stderr);" + FOREVER]) as child:
        assert child.wait_for_text("ready", STEP_TIMEOUT_S) == "ready"
        child.kill()
        assert child.returncode == -signal.SIGKILL
    assert child.stdout() == "ready\n"
    assert child.stderr() == "partial\n"


def test_a_child_that_ended_early_is_an_error_that_shows_why() -> None:
    with (
        Child([PYTHON, "-c", "raise SystemExit('no disk')"]) as child,
        pytest.raises(RigError, match=r"(?s)ended with 1 .*no disk"),
    ):
        child.wait_for_text("ready", STEP_TIMEOUT_S)


def test_stop_gives_the_exit_code_and_does_not_wait_for_ever() -> None:
    with Child([PYTHON, "-c", FOREVER]) as child:
        child.wait_for_text("ready", STEP_TIMEOUT_S)
        assert child.stop() == -signal.SIGTERM
    with Child([PYTHON, "-c", STUBBORN], stop_timeout_s=0.3) as stubborn:
        stubborn.wait_for_text("ready", STEP_TIMEOUT_S)
        with pytest.raises(RigError, match="did not stop"):
            stubborn.stop()
        assert not stubborn.running


def test_leaving_the_context_kills_grandchildren_too() -> None:
    spawn = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {FOREVER!r}]);"
        "print(p.pid, flush=True); p.wait()"
    )
    with Child([PYTHON, "-c", spawn]) as child:
        grandchild = int(wait_for(lambda: child.stdout().split()[:1], STEP_TIMEOUT_S, "a pid")[0])
        os.kill(grandchild, 0)

    def gone() -> bool:
        try:
            stat = Path(f"/proc/{grandchild}/stat").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            return True
        return stat.rpartition(")")[2].split()[0] == "Z"

    wait_for(gone, STEP_TIMEOUT_S, "the grandchild's end")


def test_a_frozen_child_says_nothing_until_thawed() -> None:
    with Child([PYTHON, "-c", FOREVER]) as child:
        child.wait_for_text("ready", STEP_TIMEOUT_S)
        child.freeze()
        state = Path(f"/proc/{child.pid}/stat")
        wait_for(lambda: state.read_text(encoding="ascii").split()[2] == "T", STEP_TIMEOUT_S, "the freeze")
        child.thaw()
        assert child.stop() == -signal.SIGTERM


def test_the_kernel_ends_the_child_when_its_parent_is_killed(tmp_path: Path) -> None:
    """A test run that is killed itself leaves nothing: the child of a killed process gets SIGKILL."""
    program = (
        "import sys, signal; sys.path.insert(0, sys.argv[1]); from tests.rigs.process import Child;"
        f"c = Child([sys.executable, '-c', {FOREVER!r}]).start(); c.wait_for_text('ready', 10);"
        "print(c.pid, flush=True); signal.pause()"
    )
    # The killed parent cannot remove its own directory; pytest does.
    with Child([PYTHON, "-c", program, os.getcwd()], env={"TMPDIR": str(tmp_path)}) as parent:
        orphan = int(wait_for(lambda: parent.stdout().split()[:1], STEP_TIMEOUT_S, "a pid")[0])
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{orphan}/exe"), STEP_TIMEOUT_S, "the end of the orphan")


def test_a_free_port_is_free_and_an_answering_one_answers() -> None:
    port = free_port()
    assert not port_answers("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert port_answers("127.0.0.1", port)


def test_a_failed_command_and_a_missing_tool_say_what_to_do() -> None:
    with pytest.raises(RigError, match="gave 3: oops"):
        run("sh", "-c", "echo oops; exit 3")
    with pytest.raises(RigError, match="apt-get install some-package"):
        require_tool("no-such-tool-anywhere", "some-package")
