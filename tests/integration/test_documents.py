"""The examples in the documents do what the documents say."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import gevent.subprocess
import pytest

import peernet
from peernet.reasons import Reason
from tests.integration.meetings import Networks
from tests.support import handle, scaled
from tools.documents import ROOT, name_of, pages, program

DOCS = ROOT / "docs"
PAGES = pages()
# Described with all other errors.
IN_PEERNET_ERRORS = ["PeerNetError"]
WITH_EXAMPLES = [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
def test_the_examples_of_a_page_run_as_printed(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_of_a_page_is_a_program(page: Path) -> None:
    compile(program(page), name_of(page), "exec")


def test_every_page_with_python_code_is_found() -> None:
    with_code = [page for page in DOCS.glob("*.rst") if "code-block:: python" in page.read_text(encoding="utf-8")]
    assert [ROOT / "README.rst", *sorted({*with_code, *WITH_EXAMPLES})] == PAGES


def test_every_public_name_has_a_reference() -> None:
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    found = set(re.findall(r"^\.\. auto(?:class|function):: peernet\.(\w+)", page, re.MULTILINE))
    assert {name for name in peernet.__all__ if not name.startswith("_")} - found == set(IN_PEERNET_ERRORS)


def test_the_program_of_the_readme_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", program(ROOT / "README.rst")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    addresses, said = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert addresses.startswith("['peer://")
    assert said.endswith(" says hello")


def test_the_program_of_the_quickstart_runs(networks: Networks, tmp_path: Path) -> None:
    alice = networks(network_name="peernet")  # as nodes are, if nothing else is said
    heard = handle(alice)
    alice.peer_added.add(lambda channel: channel.send_text("welcome"))
    command = [sys.executable, "-u", "-c", program(DOCS / "quickstart.rst"), alice.addresses[0]]
    with gevent.subprocess.Popen(command, cwd=tmp_path, stdout=gevent.subprocess.PIPE, text=True) as running:
        try:
            ((channel, packet),) = heard.wait_for(1, timeout=30)
            said = running.stdout.readline() if running.stdout else ""
            channel.close()
            assert running.wait(scaled(10)) == 0
        finally:
            running.kill()
    assert packet.pure_message.message == "hello from a program"
    assert said == f"{alice.identifier} says welcome\n"


PAGE = """\
Title
=====

.. code-block:: python

    first = 1

    if first:
        second = 2

Text, and what is no Python::

    not = Python

.. code-block:: python
   :caption: third.py

   third = 3

* An example:

  >>> for number in range(2):
  ...     number
  0
  1

.. code-block:: console

    $ not Python
"""


def test_the_code_of_a_page_keeps_its_lines_and_their_numbers(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(PAGE, encoding="utf-8")
    lines = program(page).split("\n")
    code = {number: line for number, line in enumerate(lines, start=1) if line}
    assert code == {
        6: "first = 1",
        8: "if first:",
        9: "    second = 2",
        18: "third = 3",
        22: "for number in range(2):",
        23: "    number",
    }
    assert all(line.strip() in PAGE.split("\n")[number - 1] for number, line in code.items())


def test_a_page_without_code_has_no_program(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text("Nothing here::\n\n    not = Python\n", encoding="utf-8")
    assert program(page) == ""


def test_the_specification_lists_every_reason_with_its_number() -> None:
    page = (DOCS / "protocol.rst").read_text(encoding="utf-8")
    on_the_wire = [reason for reason in Reason if reason.number or reason is Reason.UNSPECIFIED]
    missing = [reason for reason in on_the_wire if f"   * - {reason.number}\n     - ``{reason.name}``" not in page]
    assert missing == []
