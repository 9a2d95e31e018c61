from __future__ import annotations

import copy
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import peernet
from peernet import errors
from peernet.errors import PeerNetError
from peernet.reasons import Reason
from peernet.state.home import Home
from peernet.testing.ledger import Rule, Violation

CLASSES = {
    name: one for name, one in vars(errors).items() if inspect.isclass(one) and one.__module__ == errors.__name__
}
ENTRY = re.compile(r"^    (?P<indent>(?:│   |    )*)(?:[├└]── )?(?P<name>[A-Z]\w+)\b", re.MULTILINE)


def drawn_tree() -> dict[str, str | None]:
    """The classes in the module's docstring, each with the one that it hangs under."""
    parents: dict[str, str | None] = {}
    branch: list[str] = []
    for match in ENTRY.finditer(errors.__doc__ or ""):
        name = match["name"]
        depth = 0 if not branch else len(match["indent"]) // 4 + 1
        del branch[depth:]
        parents[name] = branch[-1] if branch else None
        branch.append(name)
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    def parent(one: type) -> str | None:
        return next((base.__name__ for base in one.__bases__ if base.__name__ in CLASSES), None)

    assert drawn_tree() == {name: parent(one) for name, one in CLASSES.items()}


@pytest.mark.parametrize("error", CLASSES.values(), ids=CLASSES)
def test_every_error_is_a_peernet_error_and_says_when_it_is_raised(error: type[PeerNetError]) -> None:
    assert issubclass(error, PeerNetError)
    assert error.__doc__


def test_a_wrong_value_is_also_a_value_error() -> None:
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(errors.AddressError, ValueError)


def test_errors_carry_what_a_program_decides_by() -> None:
    refused = errors.RefusedByPeerError("no", Reason.BUSY, 5.0, do_not_redial=True)
    assert (str(refused), refused.reason, refused.retry_after, refused.do_not_redial) == ("no", "busy", 5.0, True)
    assert errors.RefusedByPolicyError("no", "blocked_networks").rule == "blocked_networks"
    assert errors.RemoteProtocolError("no", Reason.BAD_PACKET).reason == "bad_packet"
    assert errors.ChannelClosedError("no", Reason.SHUTDOWN).reason == "shutdown"
    assert errors.ConnectError("no").identifier == ""


def test_parents_are_drawn_before_their_children() -> None:
    order = list(drawn_tree())
    assert order[0] == "PeerNetError"
    assert all(earlier != later for earlier, later in pairwise(order))


def every_error() -> list[type[PeerNetError]]:
    """The whole tree, in whatever module of the package a class of it stands."""
    for module in pkgutil.walk_packages(peernet.__path__, "peernet."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found: list[type[PeerNetError]] = [PeerNetError]
    for one in found:  # grows while it is walked, and ends because a tree has no circles
        found += one.__subclasses__()
    return [one for one in dict.fromkeys(found) if one.__module__.startswith("peernet")]


# By the names of parameters.
SAMPLES: dict[str, Any] = {
    "message": "it failed",
    "reason": Reason.BUSY,
    "rule": "blocked_networks",
    "retry_after": 2.5,
    "do_not_redial": True,
    "mistakes": ["one", "two"],
    "exit_code": 4,
    "home": Home(Path("home")),
    "note": b"17",
    "why": "because",
    "violations": [Violation(Rule.KEPT, "packet 3")],
}


def sample_of(kind: type[PeerNetError]) -> PeerNetError:
    """An error of a class, with something in everything that it carries."""
    if not inspect.isfunction(kind.__init__):
        error = kind("it failed", 5)
    else:
        parameters = [one for name, one in inspect.signature(kind.__init__).parameters.items() if name != "self"]
        keywords = {one.name: SAMPLES[one.name] for one in parameters if one.kind is one.KEYWORD_ONLY}
        error = kind(*[SAMPLES[one.name] for one in parameters if one.kind is not one.KEYWORD_ONLY], **keywords)
    error.added_later = ["by a program"]  # type: ignore[attr-defined]
    return error


def described(error: BaseException) -> tuple[Any, ...]:
    return type(error), str(error), error.args, {name: str(value) for name, value in vars(error).items()}


def pickled(protocol: int) -> Callable[[PeerNetError], PeerNetError]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


WAYS: dict[str, Callable[[PeerNetError], PeerNetError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_it_was(
    kind: type[PeerNetError], way: Callable[[PeerNetError], PeerNetError]
) -> None:
    error = sample_of(kind)
    assert described(way(error)) == described(error)


def test_a_copy_has_attributes_of_its_own() -> None:
    error = errors.RefusedByPeerError("no", Reason.BUSY)
    copied = copy.copy(error)
    copied.retry_after = 9.0
    assert error.retry_after == 0.0


# In a process of its own, because a pool leaves processes and descriptors behind until the end.
POOL = """
import multiprocessing
from peernet.errors import RefusedByPeerError
from peernet.reasons import Reason

def refuse(number):
    raise RefusedByPeerError(f"no {number}", Reason.BUSY, 5.0)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            pool.apply_async(refuse, (7,)).get(timeout=60)
        except RefusedByPeerError as error:
            print(error, error.reason, error.retry_after)
"""


def test_an_error_crosses_a_pool_of_processes() -> None:
    ran = subprocess.run([sys.executable, "-c", POOL], capture_output=True, text=True, timeout=90)
    assert ran.stdout == "no 7 busy 5.0\n", ran.stderr
