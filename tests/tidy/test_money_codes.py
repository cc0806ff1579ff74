"""Each refusal that guards money is provoked by some test: a guard that no test names may have gone unnoticed."""

from __future__ import annotations

import re

from tests.tidy.tree import ROOT

RAISED = re.compile(r'PaymentError\(\s*"([a-z_.]+)"')
GUARDS_MIN = 12
"""There are more than this; fewer found means that the pattern no longer fits the code."""


def test_every_refusal_about_money_is_provoked_by_a_test() -> None:
    shipped = "\n".join(
        file.read_text("utf-8") for folder in ("hubd", "sync") for file in (ROOT / folder).rglob("*.py")
    )
    codes = set(RAISED.findall(shipped))
    assert len(codes) > GUARDS_MIN
    tests = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("*.py"))
    assert {code for code in codes if f'"{code}"' not in tests} == set()
