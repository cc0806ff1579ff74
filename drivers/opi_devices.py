"""Channel 1: the terminal uses the till's display, printer and keyboard, and the hub answers for them.

A terminal waits for each answer before it goes on with a payment, so every request is answered, at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from drivers.link import READ_BYTES_MAX
from drivers.opi_codec import FrameReader, Garbage, frame
from drivers.opi_messages import (
    ABORT_INPUT,
    CASHIER_DISPLAY,
    DEVICE_UNAVAILABLE,
    EVENT,
    LINES_MAX,
    OUTPUT,
    PRINTER,
    PRINTER_RECEIPT,
    SUCCESS,
    DeviceRequest,
    DeviceResponse,
    OutputResult,
    Till,
    decode,
    encode,
)
from hubd.ports import ByteStream, Progress, ProgressSink
from hubd.runtime import Clock

ANSWER_SEND_TIMEOUT_S = 5.0
"""A terminal that does not read its answers loses this line, and nothing else."""
REQUESTS_MAX = 300
REQUESTS_WINDOW_S = 10.0
"""A terminal that asks more often than `REQUESTS_MAX` times in this time babbles and loses this line."""

_SERVED = frozenset({OUTPUT, ABORT_INPUT, EVENT})
_STEPS = (
    (re.compile(r"\bpin|code\b", re.I), "enter_pin"),
    (re.compile(r"remove|retire|verwijder|uitnemen|neem .*kaart|entnehmen|entfernen", re.I), "remove_card"),
    (
        re.compile(
            r"insert|present|ins[eé]re|pr[eé]sente|introdui|invoer|bied .*aan|einstecken|einf[uü]hr|vorhalten", re.I
        ),
        "insert_card",
    ),
    (re.compile(r"connect|connexion|verbind|autori[sz]|authori[sz]", re.I), "waiting_for_host"),
)
"""Words on the cashier's display, English, French, Dutch and German; the texts themselves go no further."""


def answer_to(request: DeviceRequest, till: Till) -> DeviceResponse:
    """What the hub answers: yes to all that is shown or printed, "not available" to all that is asked of a person.

    Nobody has typed anything, so nothing may be confirmed in their name: neither a signature nor an amount. The
    terminal then goes on by its own rule for a till without a keyboard.
    """
    served = request.request_type in _SERVED and not request.input_target
    asked = OutputResult(request.input_target, DEVICE_UNAVAILABLE) if request.input_target else None
    return DeviceResponse(
        request.request_type,
        request.request_id,
        SUCCESS if served else DEVICE_UNAVAILABLE,
        till,
        tuple(OutputResult(output.target, SUCCESS) for output in request.outputs),
        asked,
    )


class TillDevices:
    """Serves the lines that the terminal opens to the hub, and tells what came on them."""

    def __init__(self, clock: Clock, till: Till, heard: Callable[[DeviceRequest], None]) -> None:
        self._clock = clock
        self._till = till
        self._heard = heard

    async def serve(self, stream: ByteStream) -> None:
        """Answer on one line until it is lost; a `hubd.ports.ServeLine`. Raises nothing that a device can cause."""
        reader, count, since = FrameReader(), 0, self._clock.monotonic()
        try:
            while data := await stream.read(READ_BYTES_MAX):
                for found in reader.feed(data):
                    request = found if isinstance(found, Garbage) else decode(found)
                    if self._clock.monotonic() - since > REQUESTS_WINDOW_S:
                        count, since = 0, self._clock.monotonic()
                    count += 1
                    if not isinstance(request, DeviceRequest) or count > REQUESTS_MAX:
                        return
                    self._heard(request)
                    async with self._clock.timeout(ANSWER_SEND_TIMEOUT_S):
                        await stream.write(frame(encode(answer_to(request, self._till))))
        except OSError:  # TimeoutError is one
            return


class Heard:
    """What the terminal has done with the till's devices in one dialogue."""

    def __init__(self, progress: ProgressSink) -> None:
        self._progress = progress
        self._step = ("", "")
        self.lines: list[str] = []
        self.quiet = True

    def begun(self) -> None:
        """The request has left."""
        self._progress(Progress("started"))

    def note(self, request: DeviceRequest) -> None:
        """Keep what is printed; tell what is shown, each step once."""
        self.quiet = False
        for output in request.outputs:
            if output.target in (PRINTER, PRINTER_RECEIPT):
                self.lines.extend(output.lines[: LINES_MAX - len(self.lines)])
            elif output.target == CASHIER_DISPLAY:
                text = " ".join(output.lines)
                step = step_of(text)
                if (step, text) != self._step:
                    self._step = (step, text)
                    self._progress(Progress(step, text))


def step_of(text: str) -> str:
    """The code for what a cashier's display shows; `please_wait` for what is not understood."""
    return next((step for words, step in _STEPS if words.search(text)), "please_wait")
