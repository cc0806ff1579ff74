"""The commands of hubctl, put together. Importing this must stay cheap: commands import what they need themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubd import __version__
from hubd.cli import (
    backup,
    bugreport,
    config,
    demo,
    device_trials,
    devices,
    doctor,
    documents,
    driver_kit,
    enrol,
    journal,
    lists,
    logs,
    outages,
    people,
    removable,
    status,
)
from hubd.cli.common import Target
from hubd.cli.output import print_line

app = typer.Typer(
    name="hubctl",
    help="Look at, check and repair a store hub. Exit codes: 0 fine, 1 unhealthy or no, 2 usage, 3 hub not reachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print_line(f"hubctl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="The hub's configuration; default: as the hub itself finds it.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Look at, check and repair a store hub."""
    context.obj = Target(config_file)


device_trials.add_to(devices.app)
for command in (
    status.status,
    lists.payments,
    lists.orders,
    enrol.enrol,
    logs.logs,
    doctor.doctor,
    bugreport.bugreport,
    backup.restore,
    removable.removable,
):
    app.command()(command)
for name, group in (
    ("devices", devices.app),
    ("sync", lists.sync),
    ("outages", outages.app),
    ("journal", journal.app),
    ("backup", backup.app),
    ("config", config.app),
    ("users", people.users),
    ("pair", people.pair),
    ("documents", documents.app),
    ("demo", demo.app),
):
    app.add_typer(group, name=name)
devices.app.command()(driver_kit.new)
devices.app.command()(driver_kit.drivers)


@app.command(hidden=True)
def reference() -> None:
    """Print the reference page of the documentation."""
    from hubd.cli.reference import reference_page

    print_line(reference_page(app).rstrip("\n"))
