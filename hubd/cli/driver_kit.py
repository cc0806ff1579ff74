"""`hubctl devices new` and `drivers`: begin a driver, and see which ones are installed. Needs no hub that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubd.cli.common import JsonFlag
from hubd.cli.output import print_json, print_line, print_table


def new(
    name: Annotated[str, typer.Argument(help="Id of the driver: small letters, digits, underscores.")],
    title: Annotated[str, typer.Option(help="What people call the device.")] = "",
    into: Annotated[Path, typer.Option(help="Where to write the package.")] = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Write a package with a new driver, its simulator, transcript and tests; see docs/develop/add-a-driver.md."""
    from drivers.kit.scaffold import scaffold

    written = scaffold(name, title, into)
    if as_json:
        print_json(driver=name, files=[str(path) for path in written])
        return
    for path in written:
        print_line(str(path))


def drivers(as_json: JsonFlag = False) -> None:
    """The drivers that are installed here, those of other packages too, and why one cannot be used."""
    from drivers.registry import load

    found = [
        {
            "driver": entry.manifest.id if entry.manifest else "",
            "kind": entry.manifest.kind.value if entry.manifest else "",
            "name": entry.manifest.name if entry.manifest else "",
            "stage": entry.manifest.stage if entry.manifest else "",
            "module": entry.module,
            "reason": entry.reason,
        }
        for entry in load().entries
    ]
    if as_json:
        print_json(drivers=found)
        return
    columns = ("driver", "kind", "name", "stage", "module", "reason")
    print_table(columns, [[one[column] for column in columns] for one in found], empty="No driver is installed.")
