"""The Python code of the documents. The code of one page, in its order, is one program.

Tests run it, and ``tools/check_documents`` has its types checked.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r"^(?P<indent> *)\.\. code-block:: python$")
OPTION = re.compile(r"^ *:\w+:")


def pages() -> list[Path]:
    """The pages with Python code, the README first."""
    candidates = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
    return [page for page in candidates if program(page)]


def program(page: Path) -> str:
    """The program of a page. Each line of it has the number that it has in the page, and all others are empty."""
    text = page.read_text(encoding="utf-8")
    found = dict([*_code_blocks(text), *_examples(text)])
    return "".join(f"{found.get(number, '')}\n" for number in range(max(found) + 1)) if found else ""


def name_of(page: Path) -> str:
    """A page as it is called in messages, such as ``docs/trust.rst``."""
    return page.relative_to(ROOT).as_posix()


def _code_blocks(text: str) -> Iterator[tuple[int, str]]:
    """The lines of all blocks of Python code, with their numbers, which begin at 0."""
    inside: int | None = None  # the indentation of the directive
    code_at: int | None = None  # that of its first line of code
    for number, line in enumerate(text.splitlines()):
        indent = len(line) - len(line.lstrip())
        directive = DIRECTIVE.match(line)
        if directive:
            inside, code_at = len(directive["indent"]), None
        elif inside is not None and line and indent <= inside:
            inside = None
        elif inside is not None and line and not (code_at is None and OPTION.match(line)):
            code_at = indent if code_at is None else code_at
            yield number, line[code_at:]


def _examples(text: str) -> Iterator[tuple[int, str]]:
    """The lines of all examples that show what an interpreter answers, with their numbers."""
    for example in doctest.DocTestParser().get_examples(text):
        yield from enumerate(example.source.splitlines(), start=example.lineno)
