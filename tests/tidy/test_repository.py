"""House rules about the repository: locks, hosts, paths, documents. Each rule is also shown what it must find."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tidy.tree import PACKAGES, ROOT, repository_files, text, tree

LOCKS = (Path("requirements/run.txt"), Path("requirements/dev.txt"))
NAME = r"[a-z0-9]+(?:-[a-z0-9]+)*"
LOCK_LINE = re.compile(
    rf"(?:{NAME}==[\w.!+]+(?: ; [\w\s.'<>=!()]+)? \\|    --hash=sha256:[0-9a-f]{{64}}(?: \\)?|\s*#.*)"
)
PROMISES = {1, 2, 3, 4, 5, 7}  # by the numbers of the design; each has a test the README points to

# Written with classes of one character, so that this file does not contain what it looks for.
DEVELOPER_PATHS = re.compile(r"/home[/][a-z]|/Users[/]|/root[/]|(?<![\w.}~-])/work[/]")
REGISTRIES = (r"pypi[.]org", r"pythonhosted[.]org", r"registry[.]npmjs[.]org", r"deb[.]debian[.]org")

# Files in which such a path is meant, each with its reason.
PATHS_MEANT: dict[Path, str] = {}


def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def direct_dependencies() -> list[str]:
    """Names of what we depend on ourselves, at run time, to build and to develop."""
    said = project()
    groups = [entry for group in said["dependency-groups"].values() for entry in group if isinstance(entry, str)]
    names = [re.match(NAME, requirement.lower()) for requirement in (*said["project"]["dependencies"], *groups)]
    return sorted({name.group() for name in names if name})


def pinned(lock: str) -> dict[str, set[str]]:
    """Name → versions in a lock file: more than one where markers choose."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(rf"^({NAME})==([\w.!+]+)", lock, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def foreign_lines(lock: str) -> list[str]:
    """Lines of a lock file that are neither a pinned version, nor a hash, nor a remark without an address."""
    return [line for line in lock.splitlines() if not LOCK_LINE.fullmatch(line) or "://" in line]


def unhashed(lock: str) -> list[str]:
    """Pinned versions that no hash follows."""
    return re.findall(rf"^({NAME}==\S+).*\n(?!    --hash=sha256:)", lock, re.MULTILINE)


def configured_hosts() -> set[str]:
    """Hosts that this machine's package tools are configured with; none where they use their defaults."""
    pip = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    settings = [value for name, value in os.environ.items() if re.search("index|proxy|registry", name, re.IGNORECASE)]
    hosts = re.findall(r"https?://(?:[^/@\s'\"]*@)?([^/:\s'\"]+)", "\n".join([pip, *settings]))
    return {host for host in hosts if not re.match(r"localhost|127\.", host)}


def promised_tests(readme: str) -> dict[str, list[str]]:
    """Each line of the README's list of promises → the tests it points to."""
    section = re.search(
        r"^#+[^\n]*\bpromises\b[^\n]*\n(.*?)(?=^#|\Z)", readme, re.IGNORECASE | re.MULTILINE | re.DOTALL
    )
    body = re.sub(
        r"^\|.*\n\|[\s:|-]+\|\n", "", section.group(1) if section else "", flags=re.MULTILINE
    )  # heads of tables
    items = re.findall(r"^(?:[-*]|\d+\.|\|)\s.*(?:\n(?!\s*$|[-*]\s|\d+\.\s|\|).*)*", body, re.MULTILINE)
    return {item: re.findall(r"tests/[\w/]+\.py::\w+(?:::\w+)?", item) for item in items}


def test_names(module: ast.Module) -> Iterator[str]:
    """`test_x` and `TestY::test_x` of a test module."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{name}" for name in test_names(ast.Module(body=node.body, type_ignores=[])))


test_names.__test__ = False  # type: ignore[attr-defined]  # pytest's own switch: this is a helper named like a test


def mentions(pattern: str) -> list[str]:
    """Where a pattern occurs in the repository, as path:line."""
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path in repository_files()
        if path not in PATHS_MEANT
        for number, line in enumerate(text(path).splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("path", LOCKS, ids=str)
def test_lock_names_versions_and_hashes_and_no_place(path: Path) -> None:
    """The same bytes from whichever index a machine uses: `make lock` writes it so."""
    assert foreign_lines(text(path)) == []
    assert unhashed(text(path)) == []
    assert len(pinned(text(path))) > 20


def test_lock_covers_what_we_depend_on() -> None:
    """After a change of dependencies in pyproject.toml: `make lock`."""
    run, dev = (pinned(text(path)) for path in LOCKS)
    assert [name for name in direct_dependencies() if name not in dev] == []
    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}, (
        "tests run other versions"
    )
    shipped = [re.match(NAME, requirement.lower()) for requirement in project()["project"]["dependencies"]]
    assert [name.group() for name in shipped if name and name.group() not in run] == []


def test_no_path_of_a_developers_machine() -> None:
    """A clone elsewhere has other directories."""
    assert mentions(DEVELOPER_PATHS.pattern) == []
    assert mentions(rf"(?<![\w.}}-]){re.escape(str(ROOT))}(?![\w-])") == []


def test_no_registry_host() -> None:
    """Which index a machine uses is the machine's business."""
    hosts = [*REGISTRIES, *map(re.escape, sorted(configured_hosts()))]
    assert mentions("|".join(hosts)) == []


def test_every_dependency_is_explained() -> None:
    """One line each in docs/develop/dependencies.md: what it is for; and none that is gone."""
    explained = re.findall(r"^\| `([\w-]+)` \| (.+?) \|", text(Path("docs/develop/dependencies.md")), re.MULTILINE)
    assert sorted(name for name, _ in explained) == direct_dependencies()
    assert [name for name, purpose in explained if len(purpose) < 10] == []


def test_every_promise_of_the_readme_has_its_test() -> None:
    """Each line of its list of promises names a test as `tests/...py::test_name`, and that test exists."""
    promises = promised_tests(text(Path("README.md")))
    assert len(promises) >= len(PROMISES)
    assert [promise for promise, named in promises.items() if not named] == []
    for reference in (reference for named in promises.values() for reference in named):
        path, _, name = reference.partition("::")
        assert Path(path) in repository_files(), f"{reference}: no such file"
        assert name in test_names(tree(Path(path))), f"{reference}: no such test"


def layers(makefile: str, variable: str) -> set[str]:
    """The layers a variable of the Makefile lists."""
    listed = re.search(rf"^{variable} :=(.*)$", makefile, re.MULTILINE)
    assert listed, f"the Makefile has no {variable}"
    return set(listed.group(1).split())


def test_every_layer_of_tests_is_run() -> None:
    """A directory with tests that the Makefile does not list would never run; three layers run on Python 3.13 too."""
    makefile = text(Path("Makefile"))
    tests = [path for path in repository_files() if path.parts[0] == "tests" and path.match("test_*.py")]
    assert layers(makefile, "LAYERS") == {path.parts[1] for path in tests}
    assert layers(makefile, "LAYERS_313") == layers(makefile, "LAYERS") & {"unit", "contract", "simulation"}


def test_every_exception_from_the_linter_has_its_reason() -> None:
    """In pyproject.toml: beside the rule that is ignored, or on the line above the file that is excepted."""
    lint = text(Path("pyproject.toml"))
    ignored = lint.partition("[tool.ruff.lint]")[2].partition("\nignore = [\n")[2].partition("\n]")[0].splitlines()
    excepted = lint.partition("[tool.ruff.lint.per-file-ignores]\n")[2].partition("\n\n")[0].splitlines()
    assert ignored
    assert excepted
    assert [line for line in ignored if not re.search(r'"[A-Z0-9]+",\s+# .{10}', line)] == []
    kinds = "".join("#" if line.startswith("#") else "=" for line in excepted)
    assert re.fullmatch("(#+=)+", kinds)


def test_packages_are_those_that_are_shipped() -> None:
    """The wheel, the types and the import rules speak of the same four packages."""
    said = project()
    assert tuple(said["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert tuple(said["tool"]["importlinter"]["root_packages"]) == PACKAGES


# -- each rule finds what it is shown ----------------------------------------------------------------------------------

GOOD_LOCK = (
    f"# via make lock\nsome-thing==1.2 ; sys_platform == 'win32' \\\n    --hash=sha256:{'0' * 64}\n    # via hubd\n"
)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url x",
        "--extra-index-url file:///simple",
        "--find-links wheels",
        "thing @ file:///x.whl",
        "thing>=1",
        "    # from https://a.example/simple",
        "-e .",
    ],
)
def test_foreign_lines_of_a_lock_are_recognised(line: str) -> None:
    assert foreign_lines(GOOD_LOCK) == []
    assert foreign_lines(GOOD_LOCK + line + "\n") == [line]


def test_missing_hash_is_recognised() -> None:
    assert unhashed(GOOD_LOCK) == []
    assert unhashed("thing==1 \\\nother==2 \\\n    --hash=sha256:00\n") == ["thing==1"]
    assert pinned(GOOD_LOCK) == {"some-thing": {"1.2"}}


@pytest.mark.parametrize("top", ["home", "root", "work", "Users"])
def test_developer_paths_are_recognised(top: str) -> None:
    assert DEVELOPER_PATHS.search(f"open('/{top}/alice/x')")


@pytest.mark.parametrize("path", ["/var/lib/hubd", "~|work|x", "tests|work|x", "chroot/x", "/etc/hubd/hubd.toml"])
def test_other_paths_are_free(path: str) -> None:
    path = path.replace("|", "/")
    assert not DEVELOPER_PATHS.search(f"open('{path}')")


def test_promises_are_read_from_lists_and_tables() -> None:
    readme = (
        "# hubd\n## What it promises\nText.\n\n- one,\n  `tests/a/test_b.py::test_c`\n- two\n"
        "1. three `tests/d.py::T::test_e`\n"
        "| a | b |\n| --- | --- |\n| four | `tests/f.py::test_g` |\n| five | |\n\n## Next\n- other\n"
    )
    named = list(promised_tests(readme).values())
    assert named == [["tests/a/test_b.py::test_c"], [], ["tests/d.py::T::test_e"], ["tests/f.py::test_g"], []]
    assert list(test_names(ast.parse("def test_a(): ...\nclass T:\n  async def test_b(self): ..."))) == [
        "test_a",
        "T::test_b",
    ]
