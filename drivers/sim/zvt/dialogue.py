"""The terminal's side of one running command: it speaks, waits for the hub's acknowledgement, and hears an abort."""

from __future__ import annotations

from datetime import UTC, datetime

from drivers.link import LineLostError
from drivers.sim.ledger import Transaction, TransactionState
from drivers.zvt_codec import CURRENCY_NUMBERS, Apdu, amount_to_bcd, bcd, ber_length, build_fields, build_tlv
from drivers.zvt_link import BlockRefusedError, ZvtLink
from drivers.zvt_messages import (
    ABORT,
    ABORT_COMMAND,
    COMPLETION,
    INTERMEDIATE_STATUS,
    POSITIVE_ACK,
    PRINT_BLOCK,
    PRINT_LINE,
    STATUS_INFORMATION,
)
from hubd.model.money import Money
from hubd.runtime import Clock

ACK_TIMEOUT_S = 5.0
RECEIPT_COLUMNS = 24
BUSY = Apdu(0x849C)
ALTERNATIVE_ACK = Apdu(0x8400)


class Dialogue:
    """What the terminal does between a command and its end. A lost line ends it, unless it `keeps_going`."""

    def __init__(self, link: ZvtLink, clock: Clock, *, keeps_going: bool, leak: str = "") -> None:
        self._link = link
        self._clock = clock
        self._keeps_going = keeps_going
        self._leak = leak
        self.detached = False
        self.aborted = False
        self.taken = POSITIVE_ACK
        """With what it says that it has taken a command."""

    async def acknowledge(self, refusal: Apdu | None = None) -> None:
        """The first answer to a command, which is taken without a `refusal`; the hub does not acknowledge it."""
        await self._send(refusal or self.taken)

    async def say(self, command: int, data: bytes = b"") -> None:
        """Send a message and wait for its acknowledgement; a hub that does not give one is not waited for."""
        await self._send(Apdu(command, data))
        if self.detached:
            return
        try:
            async with self._clock.timeout(ACK_TIMEOUT_S):
                while not await self._hear():
                    pass
        except TimeoutError:
            return
        except LineLostError:
            self._lost()

    async def wait(self, seconds: float) -> bool:
        """Let the customer take time; return whether the command was aborted meanwhile."""
        until = self._clock.monotonic() + seconds
        while not self.aborted and (left := until - self._clock.monotonic()) > 0:
            if self.detached:
                await self._clock.sleep(left)
                break
            try:
                async with self._clock.timeout(left):
                    await self._hear()
            except TimeoutError:
                break
            except LineLostError:
                self._lost()
        return self.aborted

    async def _hear(self) -> bool:
        """Take one message of the hub; return whether it was an acknowledgement."""
        apdu = await self._link.receive(None)
        if apdu.command >> 8 in (0x80, 0x84):
            return True
        if apdu.command == ABORT_COMMAND:
            self.aborted = True
            await self._send(POSITIVE_ACK)
        else:
            await self._send(BUSY)
        return False

    async def _send(self, apdu: Apdu) -> None:
        if self.detached:
            return
        try:
            await self._link.send(apdu)
        except BlockRefusedError:
            return
        except LineLostError:
            self._lost()

    def _lost(self) -> None:
        if not self._keeps_going:
            raise LineLostError("hub_gone")
        self.detached = True

    # -- what it says --------------------------------------------------------------------------------------------------

    async def progress(self, code: int, text: str = "") -> None:
        """04 FF; words of its own follow after a timeout byte, as display texts."""
        text = " ".join(filter(None, (text, self._leak)))
        shown = build_tlv(0x24, build_tlv(0x07, text.encode("cp437", "replace")))
        words = b"\0" + build_fields([(0x06, shown)]) if text else b""
        await self.say(INTERMEDIATE_STATUS, bytes((code,)) + words)

    async def complete(self, data: bytes = b"") -> None:
        """06 0F."""
        await self.say(COMPLETION, data + leaked_fields(self._leak))

    async def fail(self, code: int) -> None:
        """06 1E."""
        await self.say(ABORT, bytes((code,)) + leaked_fields(self._leak))

    async def status_information(self, data: bytes) -> None:
        """04 0F."""
        # Of a field that is told twice the first one counts.
        await self.say(STATUS_INFORMATION, leaked_fields(self._leak) + data)

    async def print_lines(self, lines: list[str], *, as_block: bool) -> None:
        """A receipt, line by line (06 D1) or at once (06 D3)."""
        encoded = [line.encode("cp437", "replace") for line in (*leaked_lines(self._leak), *lines)]
        if as_block:
            texts = b"".join(build_tlv(0x07, line) for line in encoded)
            content = build_tlv(0x1F07, b"\x02") + build_tlv(0x25, texts)
            await self.say(PRINT_BLOCK, b"\x06" + ber_length(len(content)) + content)
            return
        for line in encoded:
            await self.say(PRINT_LINE, b"\x00" + line)


def status_fields(
    transaction: Transaction, terminal_id: str, *, amount_minor: int, receipt_number: str, technology: str
) -> bytes:
    """Fields of a status information. The card number is masked as terminals do: all but four digits are E."""
    fields = [(0x27, bytes((transaction.result_code,))), (0x29, bcd(terminal_id))]
    if transaction.state is TransactionState.CANCELLED:
        return build_fields([*fields, (0x3C, b"Abbruch durch Kunde")])
    fields += [
        (0x04, amount_to_bcd(amount_minor)),
        (0x49, bytes.fromhex(CURRENCY_NUMBERS[transaction.currency])),
        (0x0B, bcd(f"{transaction.trace % 1_000_000:06d}")),
        (0x0C, bcd(f"{_moment(transaction):%H%M%S}")),
        (0x0D, bcd(f"{_moment(transaction):%m%d}")),
    ]
    if transaction.original_trace:
        fields.append((0x37, bcd(f"{transaction.original_trace % 1_000_000:06d}")))
    if receipt_number:
        fields.append((0x87, bcd(receipt_number)))
    used = build_tlv(0x1F12, b"\x02" if technology == "contactless" else b"\x01")
    if not transaction.result_code:
        used += build_tlv(0x1F10, b"\x00" if technology == "contactless" else b"\x03")
        used += build_tlv(0x1F11, b"\x00" if transaction.offline else b"\x01")
        fields.append((0x3B, f"{transaction.trace % 1_000_000:06d}".encode().ljust(8, b"\0")))
    fields += [
        (0x22, bytes.fromhex("EEEEEEEEEEEE4771")),
        (0x8B, b"Debit Mastercard\0"),
        (0x06, build_tlv(0x2F, used)),
    ]
    return build_fields(fields)


def _moment(transaction: Transaction) -> datetime:
    return datetime.fromtimestamp(transaction.at_us // 1_000_000, UTC)


def receipt_lines(transaction: Transaction, terminal_id: str, printed_amount_minor: int) -> list[str]:
    """A cardholder's receipt."""
    amount = Money(printed_amount_minor, transaction.currency).plain().replace(".", ",")
    verdict = "Zahlung abgelehnt" if transaction.result_code else "Zahlung erfolgt"
    if transaction.kind == "reversal":
        verdict = "Storno erfolgt"
    return [
        "* * Kundenbeleg * *",
        f"Terminal-ID {terminal_id}",
        f"TA-Nr. {transaction.trace:06d}  Beleg-Nr. {transaction.receipt_number}",
        f"Betrag {amount}",
        "Karte ############4771",
        verdict,
    ]


def reference_lines(reference: str) -> list[str]:
    """The additional text of the authorisation, broken where the paper ends."""
    text = f"Ref. {reference}" if reference else ""
    return [text[start : start + RECEIPT_COLUMNS] for start in range(0, len(text), RECEIPT_COLUMNS)]


def leaked_fields(card_number: str) -> bytes:
    """A card number in every field that may hold one; nothing without a number."""
    if not card_number:
        return b""
    even = card_number + "F" * (len(card_number) % 2)
    track = f"{card_number}D25122010000012345"
    track += "F" * (len(track) % 2)
    text = card_number.encode("ascii")
    return build_fields(
        [
            (0x22, bytes.fromhex(even)),
            (0x23, bytes.fromhex(track)),
            (0x24, text),
            (0x2D, b"B" + text + b"^CUSTOMER/A^2512"),
            (0x2E, text),
            (0xD1, text),
            (0x92, text),
            (0x3C, b"Karte " + text),
            (0x8B, text),
            (0x9A, text),
            (0xA7, text),
            (0xAF, text),
            (0xEB, text[:8]),
            *((tag, text) for tag in (*range(0xE1, 0xE9), *range(0xF1, 0xF9))),
            (0x06, build_tlv(0x07, text) + build_tlv(0x2F, build_tlv(0x1F12, b"\x01")) + _leaked_tlv(even, track)),
        ]
    )


def _leaked_tlv(number: str, track: str) -> bytes:
    """EMV's own tags for the number and the tracks, inside the container of the application."""
    values = ((0x5A, number), (0x57, track), (0x56, track), (0x9F6B, track), (0x43, number), (0x1F2B, number))
    spelled = number.encode("ascii")
    words = b"".join(build_tlv(tag, spelled) for tag in (0x44, 0x1F17, 0x5F20, 0x9F20))
    return build_tlv(0x60, b"".join(build_tlv(tag, bytes.fromhex(value)) for tag, value in values) + words)


def leaked_lines(card_number: str) -> list[str]:
    """A card number in the receipt, with and without spaces and as a track."""
    if not card_number:
        return []
    grouped = " ".join(card_number[at : at + 4] for at in range(0, len(card_number), 4))
    return [f"Karte {card_number}", grouped, f";{card_number}=2512", f"%B{card_number}^CUSTOMER/A^2512101?"]
