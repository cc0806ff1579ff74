"""`hubctl enrol`: bind the hub to its cloud by a one-time code."""

from __future__ import annotations

from typing import Annotated

import typer

from hubd.cli.common import JsonFlag, client_of
from hubd.cli.output import print_json, print_line


def enrol(
    context: typer.Context,
    cloud: Annotated[str, typer.Argument(help="The cloud's address: https://…")],
    code: Annotated[str, typer.Option(prompt="Code", help="The one-time code that the cloud shows.")],
    as_json: JsonFlag = False,
) -> None:
    """Bind the hub to a tenant and a store. Until then, and without a line too, it trades alone."""
    answer = client_of(context).call("POST", "/v1/enrolment", {"cloud": cloud, "code": code})
    assert isinstance(answer, dict), "the route answers with an object"
    if as_json:
        print_json(**answer)
        return
    print_line(f"The hub belongs to {answer['tenant']}, store {answer['store']}. It sends its journal from now on.")
