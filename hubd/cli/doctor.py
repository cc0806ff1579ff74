"""`hubctl doctor`: looks at the machine and says what would hinder the hub, each finding with its remedy."""

from __future__ import annotations

import typer

from hubd.cli import checks
from hubd.cli.checks import Finding, Level
from hubd.cli.common import JsonFlag, target_of
from hubd.cli.output import Exit, print_json, print_line
from hubd.errors import ConfigError

MARKS = {Level.GOOD: "good", Level.WARNING: "WARN", Level.BAD: "BAD "}


def doctor(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Check permissions, clock, disk, store, serial ports, broker, certificate and ports. Works with the hub down."""
    target = target_of(context)
    try:
        config = target.config()
    except ConfigError as error:
        findings = [Finding("config", Level.BAD, error.detail, error.remedy)]
    else:
        findings = checks.all_findings(config, hub_is_up=target.client().is_up())
    bad = any(finding.level is Level.BAD for finding in findings)
    if as_json:
        print_json(healthy=not bad, findings=[finding.as_json() for finding in findings])
    else:
        for finding in findings:
            print_line(f"{MARKS[finding.level]}  {finding.check:12} {finding.text}")
            if finding.remedy and finding.level is not Level.GOOD:
                print_line(f"{'':6}{'':12} → {finding.remedy}")
    if bad:
        raise typer.Exit(Exit.UNHEALTHY)
