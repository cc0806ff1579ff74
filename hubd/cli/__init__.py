"""hubctl, the operator's command: one file per command, each a thin client of the hub's unix socket.

Exit codes: 0 fine, 1 the answer is no or something is not well, 2 usage or configuration, 3 the hub is not reachable.
"""

from __future__ import annotations

import sys

from hubd.errors import HubError


def main() -> None:
    """Run hubctl and leave with its exit code."""
    from hubd.cli.app import app
    from hubd.cli.client import exit_code_of
    from hubd.cli.output import print_error

    try:
        app()
    except HubError as error:
        print_error(f"{error.code}: {error.detail}")
        if error.remedy:
            print_error(error.remedy)
        sys.exit(exit_code_of(error))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone, and with it the reason to say anything
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
