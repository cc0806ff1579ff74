"""`python -m tests.tidy`: the largest modules and functions, for a person who wants to tidy."""

from __future__ import annotations

from tests.tidy.test_code import FUNCTION_LINES_MAX, MODULE_LINES_MAX, function_sizes
from tests.tidy.tree import SHIPPED_OR_TESTED, python_files, text, tree

MODULES = {str(path): text(path).count("\n") for path in python_files(*SHIPPED_OR_TESTED)}
FUNCTIONS = {
    f"{path}::{name}": lines for path in python_files(*SHIPPED_OR_TESTED) for name, lines in function_sizes(tree(path))
}

for title, sizes, limit in (("modules", MODULES, MODULE_LINES_MAX), ("functions", FUNCTIONS, FUNCTION_LINES_MAX)):
    print(f"{len(sizes)} {title}, {sum(sizes.values())} lines, limit {limit}; the largest:")
    for name, lines in sorted(sizes.items(), key=lambda item: -item[1])[:15]:
        print(f"  {lines:5}  {name}")
