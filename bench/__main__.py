"""All parts in turn: `python -m bench [PART …] [--full] [--record]`."""

from __future__ import annotations

import importlib
import sys

from bench.command import parse, run
from bench.machine import BenchError, machine_line
from bench.measure import number

PARTS = ("queue_throughput", "api_latency", "depth", "wear", "drain", "failover", "events", "start", "devices")


def main() -> int:
    options, record, wanted = parse(parts=PARTS)
    print(f"{machine_line()}\n", flush=True)
    missed, broken = [], []
    for name in wanted or PARTS:
        try:
            made = run(importlib.import_module(f"bench.{name}").report, options, record=record)
        except BenchError as error:
            broken.append(f"{name}: {error}")
            print(f"## {name}\n\nnot measured: {error}\n", flush=True)
            continue
        missed += [
            f"{name}: {target.what}: {target.wanted}, measured {number(target.measured)}{target.unit}"
            for target in made.targets
            if not target.reached
        ]
        print(flush=True)
    for title, lines in (("targets not reached", missed), ("parts not measured", broken)):
        if lines:
            print(f"{title}:\n" + "\n".join(f"- {line}" for line in lines))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
