"""A new package with a driver that works: manifest, codec, simulator, transcript, tests; to be changed step by step."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from drivers.registry import load
from hubd.errors import InvalidValueError

NAME = re.compile(r"[a-z][a-z0-9_]{1,30}")
PORT: Final = 4001
"""Where the first protocol of a new driver is looked for on the network: the usual port of serial device servers."""

FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "hubd_{name}/__init__.py": "__init__.py",
    "hubd_{name}/codec.py": "codec.py",
    "hubd_{name}/driver.py": "driver.py",
    "hubd_{name}/simulator.py": "simulator.py",
    "tests/test_codec.py": "test_codec.py",
    "tests/test_contract.py": "test_contract.py",
    "tests/transcripts/weighing.json": "weighing.json",
}
"""File of the new package -> its template."""


def scaffold(name: str, title: str, into: Path) -> list[Path]:
    """Write the package `hubd-driver-NAME` below `into`, and return its files; nothing that exists is touched.

    Raises InvalidValueError `driver.invalid_name` for a name that cannot be a Python name, `driver.name_taken` for one
    that a driver has, and `driver.exists` when the directory is there already. OSError when the disk refuses.
    """
    if not NAME.fullmatch(name):
        raise InvalidValueError(
            "driver.invalid_name",
            "A driver's name has 2 to 31 small letters, digits and underscores and begins with a letter.",
            remedy="Name the protocol, `acme_scale`.",
        )
    if any(entry.manifest is not None and entry.manifest.id == name for entry in load(at_once=False).entries):
        raise InvalidValueError(
            "driver.name_taken", f"There is a driver {name} already.", remedy="Choose another name, or extend that one."
        )
    project = name.replace("_", "-")
    root = into / f"hubd-driver-{project}"
    if root.exists():
        raise InvalidValueError("driver.exists", f"{root} is there already.", remedy="Remove it, or go on in it.")
    words = name.split("_")
    camel = "".join(map(str.capitalize, words))
    values = {
        "name": name,
        "project": project,
        "title": title or " ".join(words).capitalize(),
        "class_name": camel.removesuffix("Scale") + "Scale",
        "simulator_name": f"{camel}Simulator",
        "port": str(PORT),
    }
    templates = files("drivers.kit") / "templates"
    written = []
    for target, source in FILES.items():
        path = root / target.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template((templates / f"{source}.txt").read_text("utf-8")).substitute(values), "utf-8")
        written.append(path)
    return written
