"""The examples in the documents do what the documents say."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from peernet.reasons import Reason

DOCS = Path(__file__).parents[2] / "docs"
WITH_EXAMPLES = sorted(path.name for path in DOCS.glob("*.rst") if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_page_run_as_printed(name: str) -> None:
    result = doctest.testfile(str(DOCS / name), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_specification_lists_every_reason_with_its_number() -> None:
    page = (DOCS / "protocol.rst").read_text(encoding="utf-8")
    on_the_wire = [reason for reason in Reason if reason.number or reason is Reason.UNSPECIFIED]
    missing = [reason for reason in on_the_wire if f"   * - {reason.number}\n     - ``{reason.name}``" not in page]
    assert missing == []
