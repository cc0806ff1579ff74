"""`python -m tests.fuzz TARGET --runs 100000`: feed a codec what no device sends, led by what it reaches.

Exit status 0: nothing found. What was found stands on standard error, with the bytes in base64.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

LED_BY = {
    "caisse_ap": ["drivers.caisse_ap_codec"],
    "concert": ["drivers.concert_codec"],
    "nexo": ["drivers.nexo_codec", "drivers.nexo_messages"],
    "opi": ["drivers.opi_codec", "drivers.opi_messages"],
    "poslink": ["drivers.poslink_codec", "drivers.poslink_messages"],
    "zvt_tcp": ["drivers.zvt_codec", "drivers.zvt_messages"],
    "zvt_serial": ["drivers.zvt_codec", "drivers.zvt_messages"],
    "http": ["drivers.http_line"],
    "scales": ["drivers.cas_codec", "drivers.toledo8217_codec"],
    "scanners": ["drivers.serial_scanner_codec", "drivers.hid_scanner_codec", "drivers.scan_text"],
    "keyboard": ["drivers.keyboard_scanner_codec"],
    "escpos_answers": ["drivers.escpos_codec"],
    "escpos_jobs": ["hubd.model.escpos_stream", "drivers.sim.escpos.receiver"],
    "ipp_answers": ["drivers.ipp_codec", "hubd.model.ipp"],
    "ipp_requests": ["hubd.model.ipp"],
    "rasters": ["local_api.spool.pwg_raster"],
}
"""Of each target what is instrumented: the fuzzer prefers bytes that reach new places in it."""
BYTES_MAX = 4096


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(LED_BY))
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs; -1: until something is found")
    parser.add_argument("--seconds", type=int, default=0, help="stop after so long; 0: never")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's own dice")
    parser.add_argument("--input-seconds", type=int, default=20, help="one input that takes longer is a hang")
    parser.add_argument("--memory-mb", type=int, default=512, help="more than this is found")
    parser.add_argument("--plant", default="", help="make this bug of tests/fuzz/plants.py first")
    given = parser.parse_args()
    # Only what is imported inside here is instrumented.
    with atheris.instrument_imports(include=LED_BY[given.target], enable_loader_override=False):
        from tests.fuzz.plants import PLANTS
        from tests.fuzz.targets import TARGETS, seeds
    if given.plant:
        PLANTS[given.plant][1]()
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds(given.target)):
            (Path(folder) / f"{number:03}").write_bytes(seed)
        options = {
            "runs": given.runs,
            "max_total_time": given.seconds,
            "seed": given.seed,
            "max_len": BYTES_MAX,
            "timeout": given.input_seconds,
            "rss_limit_mb": given.memory_mb,
            "artifact_prefix": f"{folder}/found-",
        }
        arguments = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), folder]
        atheris.Setup(arguments, TARGETS[given.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
