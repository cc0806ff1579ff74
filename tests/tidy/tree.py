"""What the tidy tests look at: the files of the repository, and Python as its tokens and its syntax tree."""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hubd", "drivers", "sync", "local_api")
SHIPPED_OR_TESTED = (*PACKAGES, "tests", "bench")


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is in the repository or would be with the next `git add`, as a path from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = (Path(name) for name in listed.stdout.decode().split("\0") if name)
    files = tuple(name for name in names if (ROOT / name).is_file())
    assert len(files) > 10, "git lists almost nothing: these tests would look at nothing and pass"
    return files


def python_files(*tops: str) -> Iterator[Path]:
    """Python files below the given top directories, as paths from the root."""
    return (path for path in repository_files() if path.suffix == ".py" and path.parts[0] in tops)


@cache
def text(path: Path) -> str:
    """Text of a repository file; bytes that are not UTF-8 show as replacement characters."""
    return (ROOT / path).read_text("utf-8", errors="replace")


@cache
def tree(path: Path) -> ast.Module:
    """Syntax tree of a Python file of the repository."""
    return ast.parse(text(path), filename=str(path))


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each comment of a Python file of the repository."""
    return comments_of(text(path))


def comments_of(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each comment: a `noqa` inside a string is none."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
