"""Holds a mocked USB bus; see `tests.rigs.usb_bus`. Runs under the distribution's own Python with PyGObject."""

import json
import os
import sys

import gi  # type: ignore[import-not-found]  # of the distribution, not of the virtual environment

gi.require_version("UMockdev", "1.0")
from gi.repository import UMockdev  # type: ignore[import-not-found]  # noqa: E402 - the version has to be said first


def main() -> None:
    """Obey one JSON line after the other until standard input ends."""
    bed = UMockdev.Testbed.new()
    print(json.dumps({"directory": bed.get_root_dir()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "plug" in request:
            bed.add_from_string(request["plug"])
        for path in request.get("pull", ()):
            bed.uevent(path, "remove")
            bed.remove_device(path)
        for name in request.get("unlink", ()):
            os.unlink(bed.get_root_dir() + name)
        print(json.dumps({"ok": True}), flush=True)


main()
