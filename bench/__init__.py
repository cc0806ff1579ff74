"""What the hub costs and what it reaches, each number next to its peers in the same run. Not timed tests.

`python -m bench` runs all parts, `python -m bench.NAME` one of them; see docs/reference/performance.md.
"""
