from __future__ import annotations

import pytest

from local_api.spool.pwg_raster import RasterError, pictures_of
from tests.fuzz.targets import raster_header


def pages(count: int) -> bytes:
    """Pages of 20,000 rows of 2,048 black dots, each row packed into a few bytes and said 256 times."""
    rows = (b"\xff" + b"\x7f\xff" * 2) * 79
    return b"RaS2" + (raster_header(2_048, 20_000) + rows) * count


def test_pages_that_are_little_packed_and_much_unpacked_are_refused() -> None:
    assert pictures_of(pages(2))
    with pytest.raises(RasterError, match="all its pages"):
        pictures_of(pages(3))
