"""House rules about Python code that no linter knows. Every rule is also shown something it must find."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.tree import PACKAGES, ROOT, SHIPPED_OR_TESTED, comments, comments_of, python_files, text, tree

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 600

# Functions that are longer than a screen, each with the reason why it reads better whole.
LONG_FUNCTIONS: dict[str, str] = {
    "tests/migrations/make_release.py::drafts": "a table: one line for each kind of entry, in the order of a story",
}

# Loops that may sleep in tests, each with its reason. Everybody else waits for a condition through them.
SLEEPERS = {
    Path("tests/rigs/link_proxy.py"): "a slow link: the delay is what it makes, nobody waits by it for a condition",
    Path("tests/rigs/process.py"): "the one polling wait of the rigs: a condition with a limit, outside any loop",
    Path("tests/rigs/vm_agent.py"): "in the guest: nobody holds the other end of its port, nothing can be waited for",
    Path("drivers/kit/virtual_time.py"): "virtual time: sleeping takes none",
    Path("tests/crash/test_kills_under_load.py"): "the moment of a kill is what the seed decides; nothing waits by it",
}

SQL = re.compile(
    r"""^\s*(?:
      select\b.+\bfrom\b | insert\s+(?:or\s+\w+\s+)?into\b | update\s+\w+\s+set\b | delete\s+from\b | replace\s+into\b
    | (?:create|drop|alter)\s+(?:unique\s+|temp\s+)?(?:table|index|trigger|view)\b | pragma\s+\w+
    | begin\s+(?:immediate|exclusive|transaction)\b | attach\s+database\b | vacuum\b
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
SILENCER = re.compile(
    r"""\#\s*(?:
      noqa\b(?::\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)? | type:\s*ignore(?:\[[\w,\ -]+\])?
    | pragma:\s*no\s+cover
    )""",
    re.VERBOSE,
)


def _docstrings(module: ast.Module) -> set[int]:
    """Identities of the nodes that are docstrings."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            found.add(id(first.value))
    return found


def sql_texts(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each string that is an SQL statement."""
    docstrings = _docstrings(module)
    for node in ast.walk(module):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        if SQL.match(node.value):
            yield node.lineno, node.value.strip().splitlines()[0]


def function_sizes(module: ast.Module, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Qualified name and length of each function, its docstring not counted."""
    for node in ast.iter_child_nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node):
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield prefix + node.name, lines
        if isinstance(node, ast.ClassDef):
            inside = ast.Module(body=node.body, type_ignores=[])
            yield from function_sizes(inside, f"{prefix}{node.name}.")


def sleeps(module: ast.Module) -> Iterator[int]:
    """Lines where somebody sleeps, whichever way the name was imported."""
    clocks = {"time", "asyncio", "anyio"}
    for node in ast.walk(module):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr="sleep") if name in clocks:
                yield node.lineno
            case ast.ImportFrom(module=name, names=names) if name in clocks and any(n.name == "sleep" for n in names):
                yield node.lineno


def evasions(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines where a test lets itself be passed over."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip", "skipTest"}:
            yield node.lineno, node.attr


def unexplained(comment: str) -> bool:
    """Whether a comment silences a tool and gives no reason beside it."""
    silencer = SILENCER.search(comment)
    if silencer is None:
        return False
    rest = comment[: silencer.start()] + comment[silencer.end() :]
    return len(re.findall(r"\w{2,}", rest)) < 2


def test_only_the_two_stores_contain_sql() -> None:
    """Every statement lives where its transaction is visible: hubd/store, or sync/cloud/store.py for the cloud's."""
    found = [
        f"{path}:{line}: {statement}"
        for path in python_files(*PACKAGES)
        if not path.is_relative_to("hubd/store") and path != Path("sync/cloud/store.py")
        for line, statement in sql_texts(tree(path))
    ]
    assert found == [], "move the statement into a function fn(tx, ...) of the store"


def test_functions_fit_on_a_screen() -> None:
    """Split by level of detail, or list it in LONG_FUNCTIONS with the reason; an entry nobody needs goes away."""
    long = {
        f"{path}::{name}": lines
        for path in python_files(*SHIPPED_OR_TESTED)
        for name, lines in function_sizes(tree(path))
        if lines > FUNCTION_LINES_MAX
    }
    assert {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS} == {}
    assert sorted(set(LONG_FUNCTIONS) - set(long)) == [], "these are short now: take them off the list"


def test_modules_stay_readable() -> None:
    """`python -m tests.tidy` prints the largest; a module past the limit holds two things."""
    sizes = {str(path): text(path).count("\n") for path in python_files(*SHIPPED_OR_TESTED)}
    assert {name: lines for name, lines in sizes.items() if lines > MODULE_LINES_MAX} == {}


def test_no_test_sleeps() -> None:
    """Wait for a condition with a limit (tests/rigs), or own time (tests/simulation)."""
    found = [f"{path}:{line}" for path in python_files("tests") if path not in SLEEPERS for line in sleeps(tree(path))]
    assert found == []


def test_nothing_is_skipped() -> None:
    """A missing server fails (`make test` installs it); a known bug is mended, or written down in the status page."""
    found = [f"{path}:{line} {what}" for path in python_files("tests") for line, what in evasions(tree(path))]
    assert found == []


def test_every_silenced_warning_says_why() -> None:
    """`# noqa: CODE - why this line is right` and `# type: ignore[code]  # why the checker cannot know`."""
    found = [
        f"{path}:{line}: {comment}"
        for path in python_files(*SHIPPED_OR_TESTED)
        for line, comment in comments(path)
        if unexplained(comment)
    ]
    assert found == []


def test_every_module_of_the_hub_has_its_layer() -> None:
    """A module outside the layers could import anything: give it a line in pyproject.toml."""
    contracts = (ROOT / "pyproject.toml").read_text("utf-8").partition("[tool.importlinter]")[2]
    layers = contracts.partition("layers = [")[2].partition("]")[0]
    modules = {path.parts[1].removesuffix(".py") for path in python_files("hubd")} - {"__init__", "__main__"}
    assert sorted(name for name in modules if not re.search(rf"\bhubd\.{name}\b", layers)) == []


# -- each rule finds what it is shown ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "select a from b",
        "INSERT OR IGNORE INTO t VALUES (1)",
        "\n  UPDATE t SET a = 1",
        "PRAGMA user_version",
        "BEGIN IMMEDIATE",
    ],
)
def test_sql_is_recognised(statement: str) -> None:
    assert list(sql_texts(ast.parse(f"x = {statement!r}")))
    assert list(sql_texts(ast.parse(f"x = f{statement + ' {y}'!r}")))


@pytest.mark.parametrize("words", ["select the reader", "update of the set", "Delete this line?", "beginning"])
def test_prose_is_not_sql(words: str) -> None:
    assert not list(sql_texts(ast.parse(f"x = {words!r}")))
    assert not list(sql_texts(ast.parse('"""Select a device from the list."""')))


def test_long_function_is_measured_without_its_docstring() -> None:
    body = "\n".join(["        pass"] * 70)
    assert dict(function_sizes(ast.parse(f"class A:\n    async def long(self):\n        'says\\nwhat'\n{body}"))) == {
        "A.long": 71
    }
    assert dict(function_sizes(ast.parse('def short():\n    """one\n    two\n    """\n    return 1'))) == {"short": 2}


def test_sleep_and_skip_are_recognised() -> None:
    assert list(sleeps(ast.parse("import time\ntime.sleep(1)"))) == [2]
    assert list(sleeps(ast.parse("from asyncio import sleep as nap"))) == [1]
    assert list(sleeps(ast.parse("await clock.sleep(1)"))) == []
    shown = ast.parse("@pytest.mark.skipif(x)\ndef f():\n    pytest.xfail('y')")
    assert {what for _, what in evasions(shown)} == {"skipif", "xfail"}


@pytest.mark.parametrize(
    ("comment", "bare"),
    [
        ("# noqa", True),
        ("# noqa: S608, TID251", True),
        ("# noqa: S608 - sql", True),
        ("# pragma: no cover", True),
        ("# type: ignore[misc]", True),
        ("# noqa: S608 - the names are constants of this module", False),
        ("# type: ignore[misc]  # the stubs forget this argument", False),
        ("# an ordinary remark", False),
    ],
)
def test_reasons_are_recognised(comment: str, bare: bool) -> None:
    assert unexplained(comment) is bare


def test_comments_are_read_as_python_reads_them() -> None:
    assert list(comments_of("x = '# noqa'  # a remark\n")) == [(1, "# a remark")]
