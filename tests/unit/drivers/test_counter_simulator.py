"""Several simulated devices in one process: a wrong argument is said before any of them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.sim.counter import devices


def test_each_device_has_its_own_arguments() -> None:
    words = ["escpos", "--tcp", "127.0.0.1:0", "--columns", "32", "--", "scale", "--pty", "scale.tty", "--grams", "350"]
    printer, scale = (arguments for _, arguments in devices(words))
    assert (printer.tcp, printer.columns) == ("127.0.0.1:0", 32)
    assert (scale.pty, scale.grams) == (Path("scale.tty"), 350)


@pytest.mark.parametrize("words", [["toaster"], ["scale", "--pty", "x", "--", "toaster", "--tcp", "127.0.0.1:0"]])
def test_a_device_that_there_is_none_of_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        list(devices(words))
    assert ended.value.code == 2
    assert "no device is called toaster; there are escpos, scale, scanner" in capsys.readouterr().err
