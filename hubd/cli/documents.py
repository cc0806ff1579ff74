"""`hubctl documents`: have personal data forgotten."""

from __future__ import annotations

from typing import Annotated

import typer

from hubd.cli.common import JsonFlag, client_of
from hubd.cli.output import print_json, print_line

app = typer.Typer(help="Personal data beside the journal.", no_args_is_help=True)


@app.callback()
def documents() -> None:
    """Personal data beside the journal: names, reasons in words, receipts."""


@app.command()
def erase(
    context: typer.Context,
    document: Annotated[str, typer.Argument(help="Its id, as `GET /v1/journal` shows it with its entry.")],
    as_json: JsonFlag = False,
) -> None:
    """Forget a document: at once, or on the date until which a law keeps it."""
    answer = client_of(context).call("POST", f"/v1/documents/{document}/erase")
    assert isinstance(answer, dict), "the route answers with an object"
    if as_json:
        print_json(**answer)
    elif answer["state"] == "erased":
        print_line("Erased, here and in the archive; the cloud hears of it. Backups follow as they are replaced.")
    else:
        until = answer["kept_until"] or "a date that is known once the clock is right"
        print_line(f"Kept until {until} ({answer['law']}); it is erased then by itself.")
