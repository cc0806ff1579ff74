"""Code 128 as bars, for pages and as a picture on paper: where a printer's own code would be too wide. Pure.

Source: ISO/IEC 15417; code set B, which holds every printable character of ASCII.
"""

from __future__ import annotations

from collections.abc import Sequence

from hubd.errors import InvalidValueError
from hubd.model.printing import Barcode, Logo, code_valid

QUIET_MODULES = 10
"""Of white, on both sides: a scanner finds no code without them."""
_START_B, _STOP, _CHECK_MODULO = 104, 106, 103
_TABLE = (
    "212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231 "
    "113222 123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211 "
    "212123 212321 232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131 "
    "113123 113321 133121 313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111 "
    "314111 221411 431111 111224 111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211 "
    "241211 221114 413111 241112 134111 111242 121142 121241 114212 124112 124211 411212 421112 421211 212141 "
    "214121 412121 111143 111341 131141 114113 114311 411113 411311 113141 114131 311141 411131 211412 211214 "
    "211232 2331112"
)
_WIDTHS = _TABLE.split()
"""Of the bars and spaces of each symbol, by its value, beginning with a bar; the last one is the stop."""


def widths(data: str) -> tuple[int, ...]:
    """Widths of bars and spaces in turn, the first a bar, without the quiet zones. Raises `invalid_barcode`."""
    if not code_valid(Barcode(data)):
        raise InvalidValueError(
            "invalid_barcode", "This text makes no Code 128.", remedy="Use up to 40 printable ASCII characters."
        )
    values = [_START_B, *(ord(one) - 32 for one in data)]
    check = (values[0] + sum(at * value for at, value in enumerate(values[1:], 1))) % _CHECK_MODULO
    return tuple(int(width) for value in (*values, check, _STOP) for width in _WIDTHS[value])


def svg_path(bars: Sequence[int], height: int) -> tuple[str, int]:
    """The bars as the path of an SVG, one unit a module, and how wide it is with its quiet zones."""
    path, at = [], QUIET_MODULES
    for number, width in enumerate(bars):
        if number % 2 == 0:
            path.append(f"M{at} 0h{width}v{height}h-{width}z")
        at += width
    return "".join(path), at + QUIET_MODULES


def ladder(bars: Sequence[int], across: int, module: int) -> Logo:
    """The code down the paper, its bars `across` dots wide: so it fits every paper."""
    if across % 8:
        raise InvalidValueError("invalid_picture", "A picture is a multiple of eight dots wide.", remedy="Round it up.")
    black, white = b"\xff" * (across // 8), bytes(across // 8)
    quiet = white * (QUIET_MODULES * module)
    rows = ((white if number % 2 else black) * (width * module) for number, width in enumerate(bars))
    return Logo(across, quiet + b"".join(rows) + quiet)
