"""What can be wrong with a simulated device and its line."""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import dataclass, field, fields

from hubd.ports import ByteStream
from hubd.runtime import Runtime

BABBLE_BYTES = 64
SAID_MAX = 8000
"""Messages that a device remembers while it leaks."""


@dataclass(slots=True)
class LineFaults:
    """What can be wrong with any device. All off by default; a control command or a test switches them on and off."""

    split_bytes: int = 0
    """Write at most this many bytes at once."""
    answer_delay_s: float = 0.0
    answer_twice: bool = False
    silent: bool = False
    babble: bool = False
    """Bytes that mean nothing instead of answers."""
    greeting: str = ""
    """Hex of what is said before anything was asked, like a device with another protocol."""
    unplug_at_byte: int = 0
    """Cut the line after this many more bytes of output."""
    drop_frame: int = 0
    """Lose the k-th frame from now; 1 is the next."""
    corrupt_frame: int = 0
    leak: str = ""
    """A card number that it names wherever it can (receipts, fields, tracks), like one that is wrongly set up."""
    said: deque[bytes] = field(default_factory=lambda: deque(maxlen=SAID_MAX), init=False, repr=False)
    """No fault: what it has said while it leaks, as it left; what leaves encrypted, as it was before."""

    def set(self, name: str, value: object) -> None:
        """Switch one fault; raises ValueError for what is not on the menu or has another type."""
        known = {entry.name: type(getattr(self, entry.name)) for entry in fields(self) if entry.init}
        if name not in known:
            raise ValueError(f"no fault is called {name}; there are {', '.join(sorted(known))}")
        if known[name] is float and isinstance(value, int):
            value = float(value)
        if type(value) is not known[name]:
            raise ValueError(f"{name} takes a {known[name].__name__}")
        setattr(self, name, value)

    def clear(self) -> None:
        """All is well again."""
        for entry in fields(self):
            if entry.init:
                setattr(self, entry.name, entry.default)

    def note(self, said: bytes) -> None:
        """Remember what is said, if the device leaks."""
        if self.leak:
            self.said.append(said)

    def said_json(self) -> dict[str, object]:
        """What it has said while it leaked, in base64, for whoever must know that a card number was on the line."""
        return {"said": [base64.b64encode(one).decode("ascii") for one in self.said]}


@dataclass(slots=True)
class TerminalFaults(LineFaults):
    """What can be wrong with a card terminal beside its line."""

    refuse_registration: bool = False
    """It answers, but does not let the hub in."""
    wrong_amount: bool = False
    wrong_receipt: bool = False
    no_receipt_content: bool = False
    """An enquiry about the last transaction is answered without saying anything of it (ZVT: PAX A80)."""
    reverse_last: bool = False
    """A reversal undoes the last payment, whichever was named, and says so (ZVT: PAX A80)."""
    clearing_fails: bool = False
    says: str = ""
    """What it prints when it is told to call its acquirers or its management system, which then fails."""


class FaultyStream:
    """The simulator's end of a line, with the faults of the menu on what it writes."""

    def __init__(self, stream: ByteStream, faults: LineFaults, runtime: Runtime, frame_bytes_min: int = 2) -> None:
        """What is shorter than `frame_bytes_min` is no frame but the link's own ACK or NAK, and left alone."""
        self._frame_bytes_min = frame_bytes_min
        self._stream = stream
        self._faults = faults
        self._runtime = runtime

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream`."""
        return await self._stream.read(max_bytes)

    async def write(self, data: bytes) -> None:
        """Write one frame, or what the menu makes of it."""
        faults = self._faults
        if faults.silent:
            return
        if faults.answer_delay_s:
            await self._runtime.clock.sleep(faults.answer_delay_s)
        is_frame = len(data) >= self._frame_bytes_min
        if is_frame:
            data = self._frame(data)
        faults.note(data)
        for _ in range(2 if faults.answer_twice and is_frame else 1):
            await self._pieces(data)

    def _frame(self, data: bytes) -> bytes:
        faults, rng = self._faults, self._runtime.rng
        if faults.babble:
            return rng.randbytes(BABBLE_BYTES)
        if faults.drop_frame:
            faults.drop_frame -= 1
            if faults.drop_frame == 0:
                return b""
        if faults.corrupt_frame:
            faults.corrupt_frame -= 1
            if faults.corrupt_frame == 0:
                index = rng.randrange(len(data))
                return data[:index] + bytes((data[index] ^ (1 << rng.randrange(8)),)) + data[index + 1 :]
        return data

    async def _pieces(self, data: bytes) -> None:
        size = self._faults.split_bytes or max(1, len(data))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            left = self._faults.unplug_at_byte
            if left and len(piece) >= left:
                self._faults.unplug_at_byte = 0
                await self._stream.write(piece[:left])
                await self._stream.close()
                return
            self._faults.unplug_at_byte = max(0, left - len(piece))
            await self._stream.write(piece)

    async def close(self) -> None:
        """See `ByteStream`."""
        await self._stream.close()
