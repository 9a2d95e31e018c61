"""check_environment: findings about the process, each with what to do."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from peernet import check_environment, environment


def names_of_failures(program: str) -> str:
    """What is not ok in a process that runs `program`; this one must not be patched."""
    script = f"""{program}
from peernet import check_environment
for finding in check_environment():
    if not finding.ok:
        print(finding.name, "|", finding.message)
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_here_everything_is_fine() -> None:
    findings = check_environment()
    assert [finding for finding in findings if finding.level == "error"] == []
    assert {"python", "gevent", "protobuf runtime", "TLS 1.3", "gevent patches", "open files"} <= {
        finding.name for finding in findings
    }


@pytest.mark.parametrize("program", ["", "from gevent import monkey; monkey.patch_all()"])
def test_all_or_nothing_patched_is_fine(program: str) -> None:
    assert names_of_failures(program) == ""


def test_half_patched_is_told() -> None:
    found = names_of_failures("from gevent import monkey; monkey.patch_socket()")
    assert "gevent patches | half patched: queue, select" in found
    assert "patch_all" in found


def test_patched_too_late_is_told_with_the_culprit() -> None:
    found = names_of_failures("from time import sleep\nfrom gevent import monkey; monkey.patch_all()")
    assert "patched too late | __main__ imported time.sleep" in found


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment.DEPENDENCIES, "no_such_module", "no-such-thing")
    (finding,) = [finding for finding in check_environment() if finding.name == "no-such-thing"]
    assert (finding.ok, finding.level) == (False, "error")
    assert "pip install no-such-thing" in finding.message


def test_few_descriptors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (64, 64))
    (finding,) = [finding for finding in check_environment() if finding.name == "open files"]
    assert (finding.ok, finding.level) == (False, "warning")
    assert "ulimit" in finding.message


def test_no_network_starts_on_the_slow_protobuf() -> None:
    script = """
import os
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
from peernet import PeerNetwork
try:
    PeerNetwork().start()
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.startswith("ConfigurationError protobuf runtime: the slow one in pure Python")
