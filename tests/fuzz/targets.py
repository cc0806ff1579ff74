"""The codecs and readers that take bytes from outside, each with what is promised of it.

A target takes any bytes, and raises when a promise is broken. The limits stand here a second time on purpose: one that
somebody lifts in a codec is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from drivers import (
    caisse_ap_codec,
    cas_codec,
    concert_codec,
    escpos_codec,
    hid_scanner_codec,
    ipp_codec,
    keyboard_scanner_codec,
    nexo_codec,
    nexo_crypto,
    nexo_messages,
    opi_codec,
    opi_messages,
    poslink_codec,
    poslink_messages,
    scan_text,
    serial_scanner_codec,
    toledo8217_codec,
    zvt_codec,
    zvt_messages,
)
from drivers.http_line import HttpReader
from drivers.keyboard_layouts import LAYOUTS
from drivers.sim.escpos.receiver import Receiver
from hubd.model import escpos_stream, ipp
from hubd.model.printing import Logo
from hubd.ports import Weight
from local_api.spool import pwg_raster
from tests.fuzz.streams import BABBLES, BrokenPromiseError, stream

Target = Callable[[bytes], None]
TRANSCRIPTS = Path(__file__).parents[1] / "contract" / "transcripts"
KEY = nexo_crypto.NexoKey("key", "a passphrase of the fuzzer")
NONCE = bytes(16)
PICTURE_BYTES_MAX = 4096 * 20_000 // 8
PWG_HEADER_BYTES = 1796


def _same(found: object, expected: object) -> None:
    if found != expected:
        raise BrokenPromiseError(f"it came back as {found!r} instead of {expected!r}")


# --- terminals --------------------------------------------------------------------------------------------------------


def caisse_ap(data: bytes) -> None:
    stream(caisse_ap_codec.ElementReader, 1_010)(data)
    elements = [
        event for event in caisse_ap_codec.ElementReader().feed(data[1:]) if isinstance(event, caisse_ap_codec.Element)
    ]
    message = caisse_ap_codec.Message({one.tag: one.value for one in elements})
    caisse_ap_codec.decode_answer(message)
    caisse_ap_codec.decode_request(message)
    for one in elements:
        caisse_ap_codec.describe_element(one)
    written = caisse_ap_codec.encode_elements([(one.tag, one.value) for one in elements])
    _same(caisse_ap_codec.ElementReader().feed(written), elements)


def concert(data: bytes) -> None:
    stream(concert_codec.FrameReader, 520)(data)
    for event in concert_codec.FrameReader().feed(data[1:]):
        concert_codec.describe_from_terminal(event)
        concert_codec.describe_to_terminal(event)
    printable = bytes(0x20 + byte % 0x5F for byte in data[:512])
    _concert_frame(concert_codec.Frame(printable))
    for length in (concert_codec.REQUEST_CHARACTERS, concert_codec.ANSWER_CHARACTERS):
        _concert_frame(concert_codec.Frame(printable[:length]))


def _concert_frame(frame: concert_codec.Frame) -> None:
    _same(concert_codec.FrameReader().feed(concert_codec.encode_frame(frame)), [frame])
    concert_codec.decode_answer(frame)
    request = concert_codec.decode_request(frame)
    if not isinstance(request, concert_codec.Malformed) and request.currency in concert_codec.CURRENCY_NUMBERS:
        _same(concert_codec.decode_request(concert_codec.encode_request(request)), request)


def nexo(data: bytes) -> None:
    _nexo_message(data)
    header = nexo_codec.request_header("Payment", "1", "till", "device")
    for name in ("PaymentResponse", "ReversalResponse", "TransactionStatusResponse", "ReconciliationResponse"):
        body = {name: msgspec.Raw(data[1:] or b"0")}
        _nexo_message(nexo_codec.encode_message(nexo_codec.RESPONSE, header, body, KEY, NONCE))
    nexo_codec.additional_pairs(data.decode("latin-1"))
    nexo_codec.receipt_line(data.decode("latin-1"))


def _nexo_message(data: bytes) -> None:
    nexo_codec.describe_message("answer", data)
    try:
        _, content = nexo_codec.decode_message(nexo_codec.RESPONSE, data, KEY)
    except nexo_codec.NexoMessageError:
        return
    for decode in (
        nexo_messages.decode_payment,
        nexo_messages.decode_reversal,
        nexo_messages.decode_status,
        nexo_messages.decode_diagnosis,
        nexo_messages.decode_login,
        nexo_messages.decode_totals,
    ):
        try:
            decode(content)
        except nexo_codec.NexoMessageError:
            continue


def opi(data: bytes) -> None:
    stream(opi_codec.FrameReader, 64 * 1024 + 4)(data)
    document = data[5:]  # as if framed
    opi_codec.describe_document(document)
    opi_messages.decode(document)
    element = opi_codec.parse(document)
    if isinstance(element, opi_codec.Element):
        _same(opi_codec.parse(opi_codec.render(element)), element)
    framed = opi_codec.frame(b"<" + document)
    _same(opi_codec.FrameReader().feed(framed), [b"<" + document])


def poslink(data: bytes) -> None:
    for dialect in (poslink_codec.Dialect.PLAIN, poslink_codec.Dialect.LENGTH):
        stream(partial(poslink_codec.FrameReader, dialect), 16 * 1024 + 8)(data)
    stream(poslink_codec.HttpReader, 24 * 1024)(data)
    for event in poslink_codec.FrameReader().feed(data[1:]):
        poslink_codec.describe_event(event)
    frame = poslink_codec.decode_body(bytes(byte for byte in data if byte >= 0x20 or byte in (0x1C, 0x1F)))
    _same(poslink_codec.FrameReader().feed(poslink_codec.encode_frame(frame)), [frame])
    answer = poslink_messages.decode_answer(frame)
    if answer is not None:
        poslink_messages.decode_transaction(answer)
        poslink_messages.decode_record(answer)
        poslink_messages.decode_batch_close(answer)
        poslink_messages.decode_saf_upload(answer)
        poslink_messages.decode_serial_number(answer)
        poslink_messages.batch_mark(answer)


def zvt_tcp(data: bytes) -> None:
    stream(zvt_codec.TcpReader, 16 * 1024 + 8)(data)
    for event in zvt_codec.TcpReader().feed(data[1:]):
        _zvt_event(event)


def zvt_serial(data: bytes) -> None:
    stream(zvt_codec.SerialReader, 16 * 1024 + 8)(data)
    for event in zvt_codec.SerialReader().feed(data[1:]):
        _zvt_event(event)
    apdu = zvt_codec.Apdu(0x040F, data)
    _same(zvt_codec.SerialReader().feed(zvt_codec.encode_serial(apdu)), [apdu])
    _same(zvt_codec.TcpReader().feed(zvt_codec.encode_apdu(apdu)), [apdu])
    _zvt_event(apdu)


def _zvt_event(event: zvt_codec.LinkEvent) -> None:
    zvt_codec.describe_event(event)
    if isinstance(event, zvt_codec.Apdu):
        zvt_messages.decode_answer(event)
        zvt_messages.decode_command(event)
        completion = zvt_messages.Completion(event.data)
        zvt_messages.decode_registration(completion)
        zvt_messages.decode_terminal_status(completion)
        zvt_messages.decode_software(completion)
        zvt_codec.find_tlv(zvt_codec.parse_tlv(event.data), 0x1F07)


def http(data: bytes) -> None:
    for answers in (True, False):
        stream(partial(HttpReader, answers=answers), 600 * 1024)(data)


# --- scales and scanners ----------------------------------------------------------------------------------------------


def scales(data: bytes) -> None:
    stream(cas_codec.CasReader, 20)(data)
    stream(cas_codec.CasStreamReader, 70)(data)
    stream(toledo8217_codec.Toledo8217Reader, 16)(data)
    weight = Weight(int.from_bytes(data[:4], "big") % 100_000)
    _same(cas_codec.CasReader().feed(cas_codec.encode_weight(weight)), [weight])
    _same(cas_codec.CasStreamReader().feed(cas_codec.encode_stream(weight)), [weight])
    _same(toledo8217_codec.Toledo8217Reader().feed(toledo8217_codec.encode_weight(weight)), [weight])


def scanners(data: bytes) -> None:
    stream(serial_scanner_codec.SerialScans, 8 * 1024 + 8)(data)
    stream(hid_scanner_codec.HidScans, 3_000)(data)
    for scans in (serial_scanner_codec.SerialScans(), hid_scanner_codec.HidScans()):
        scans.quiet()
        scans.feed(data)
        scans.quiet()
    scan_text.judge(*reversed(scan_text.split_identifier(data.decode("latin-1"))))
    for at in range(0, len(data), hid_scanner_codec.DATA_BYTES):
        report = hid_scanner_codec.Report("]E0", data[at : at + hid_scanner_codec.DATA_BYTES])
        _same(hid_scanner_codec.decode_report(hid_scanner_codec.encode_report(report)), report)


def keyboard(data: bytes) -> None:
    stream(keyboard_scanner_codec.Keys, 5_000, declared=(keyboard_scanner_codec.NotEvdevError,))(data)
    keys = keyboard_scanner_codec.Keys()
    keys.quiet()
    pressed = [(20_000 * at, code, value) for at, code in enumerate(data) for value in (1, 0)]
    lines = [
        line
        for at_us, code, value in pressed
        for line in keys.feed(
            keyboard_scanner_codec.encode_event(keyboard_scanner_codec.KeyEvent(at_us, 1, code, value))
        )
    ]
    for line in lines:
        if isinstance(line, list):
            keyboard_scanner_codec.learn(line, unknown=True)
            for layout in (None, *LAYOUTS.values()):
                keyboard_scanner_codec.read_line(line, layout)


# --- printers ---------------------------------------------------------------------------------------------------------


def escpos_answers(data: bytes) -> None:
    stream(escpos_codec.AnswerReader, 8)(data)
    for answer in escpos_codec.AnswerReader().feed(data):
        escpos_codec.describe_answer(answer)


def escpos_jobs(data: bytes) -> None:
    reader = escpos_stream.StreamReader()
    pieces = [piece for at in range(0, len(data), 3) for piece in reader.feed(data[at : at + 3])]
    read = b"".join(piece.data for piece in pieces)
    _same(read, data[: len(data) - reader.begun])
    whole = list(escpos_stream.pieces_of(data))
    _same(_commands(pieces), _commands(whole))
    for handed_on in escpos_stream.for_printer(data):
        if len(handed_on) > max(2048, len(data) + 8):
            raise BrokenPromiseError("a command has grown")
    escpos_stream.text_of(data)
    escpos_stream.unread_text_of(data)
    receiver = Receiver()
    for byte in data:
        receiver.take(byte)
    if receiver.begun_bytes > len(data):
        raise BrokenPromiseError("the simulated printer holds more than it was sent")


def _commands(pieces: list[escpos_stream.Piece]) -> list[bytes]:
    return [piece.data for piece in pieces if piece.kind is not escpos_stream.Kind.TEXT]


def ipp_answers(data: bytes) -> None:
    try:
        message = ipp_codec.decode(data)
    except ipp.IppFormatError:
        return
    for _, attributes in message.groups:
        for name in attributes:
            ipp_codec.words(attributes, name)
            ipp_codec.resolutions(attributes, name)
            ipp_codec.number(attributes, name)


def ipp_requests(data: bytes) -> None:
    try:
        message = ipp.decode(data)
    except ipp.IppFormatError:
        return
    attributes = [one for group in message.groups for one in group.attributes]
    if all(map(_of_one_kind, attributes)):
        _same(ipp.decode(ipp.encode(message)), message)


def _of_one_kind(attribute: ipp.Attribute) -> bool:
    """Whether its values are all written alike: of others the first tag does not say how each was."""
    names = attribute.tag in (ipp.Tag.TEXT_IN_LANGUAGE, ipp.Tag.NAME_IN_LANGUAGE)
    kinds = {type(value) for value in attribute.values}
    members = (one for value in attribute.values if isinstance(value, ipp.Collection) for one in value.members)
    return not names and len(kinds) == 1 and all(map(_of_one_kind, members))


def rasters(data: bytes) -> None:
    for job in (data, _raster_around(data)):
        try:
            items = pwg_raster.pictures_of(job)
        except pwg_raster.RasterError:
            continue
        size = sum(len(item.rows) for item in items if isinstance(item, Logo))
        if size > PICTURE_BYTES_MAX:
            raise BrokenPromiseError(f"{len(job)} bytes became {size}, at most {PICTURE_BYTES_MAX}")


def _raster_around(data: bytes) -> bytes:
    """Pages whose size is told by the first bytes and whose dots are the rest."""
    width, height = 8 * (1 + data[0]) if data else 8, int.from_bytes(data[1:3], "big") % 20_001
    pages = 1 + (data[3] if len(data) > 3 else 0) % 8
    return b"RaS2" + (raster_header(width, height) + data[4:]) * pages


def raster_header(width: int, height: int) -> bytes:
    """Of a page in one bit a dot; a width that eight divides."""
    header = bytearray(b"PwgRaster\0".ljust(PWG_HEADER_BYTES, b"\0"))
    for at, value in ((372, width), (376, height), (388, 1), (392, width // 8), (400, 3)):
        header[at : at + 4] = value.to_bytes(4, "big")
    return bytes(header)


TARGETS: Mapping[str, Target] = {
    one.__name__: one
    for one in (
        caisse_ap,
        concert,
        nexo,
        opi,
        poslink,
        zvt_tcp,
        zvt_serial,
        http,
        scales,
        scanners,
        keyboard,
        escpos_answers,
        escpos_jobs,
        ipp_answers,
        ipp_requests,
        rasters,
    )
}

# --- where it begins --------------------------------------------------------------------------------------------------

_IPP = bytes.fromhex("0101000b00000001") + b"\x01\x47\x00\x12attributes-charset\x00\x05utf-8"
_KEYS = b"".join(
    keyboard_scanner_codec.encode_event(keyboard_scanner_codec.KeyEvent(1_000 * at, 1, code, value))
    for at, code in enumerate((2, 3, 4, 5, 28))
    for value in (1, 0)
)
_OWN: Mapping[str, tuple[bytes, ...]] = {
    "http": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    "poslink": (b"HTTP/1.1 200 OK\r\n\r\n" + poslink_codec.encode_frame(poslink_codec.Frame((("T01",), ("1.54",)))),),
    "nexo": (b'{"Response":{"Result":"Success"}}', b'{"SaleToPOIResponse":{}}', b"key=a&name=b&value=c"),
    "scales": (
        cas_codec.encode_weight(Weight(1_234)),
        cas_codec.encode_stream(Weight(1_234)),
        toledo8217_codec.encode_weight(Weight(1_234)),
        b"\x02?A\r",
    ),
    "scanners": (b"]E04006381333931\r\n", *hid_scanner_codec.encode_code("]E0", b"4006381333931")),
    "keyboard": (_KEYS, bytes((2, 3, 4, 5, 28))),
    "escpos_answers": (b"\x16\x12\x12\x12", b"\x37\x22abcd\x00", b"\x10\x00\x00\x00"),
    "escpos_jobs": (b"\x1b@text\n\x1dk\x43\x0d4006381333931\x1dV\x42\x00", b"\x1dv0\x00\x01\x00\x02\x00\xff\x10\x04"),
    "ipp_answers": (_IPP + b"\x03", _IPP + b"\x34\x00\x01a\x00\x00\x4a\x00\x00\x00\x01b\x37\x00\x00\x00\x00\x03"),
    "ipp_requests": (
        _IPP + b"\x03%PDF",
        _IPP
        + b"\x34\x00\x01a\x00\x00\x4a\x00\x00\x00\x01b\x21\x00\x00\x00\x04\x00\x00\x00\x01\x37\x00\x00\x00\x00\x03",
    ),
    "rasters": (
        b"RaS2" + raster_header(16, 2) + b"\x01\x01\xff",
        b"\xff\x4e\x20\x07" + b"\xff\x7f\xff\x7e\xff" * 79,
    ),
}


_RECORDED = {"zvt_tcp": "zvt", "zvt_serial": "zvt", "http": "nexo"}


def seeds(name: str) -> Iterator[bytes]:
    """What a target begins with: recorded dialogues, and what the codecs themselves write. A first byte is a switch."""
    for path in sorted((TRANSCRIPTS / _RECORDED.get(name, name)).glob("*.json")):
        for side, said in msgspec.json.decode(path.read_bytes())["dialogue"]:
            if side == "device":
                yield b"\0" + bytes.fromhex(said)
    yield bytes((BABBLES,)) + b"\x02<0000"
    for own in _OWN.get(name, ()):
        yield own
        yield bytes((BABBLES,)) + own
        yield b"\0" + own
