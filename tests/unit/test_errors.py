from __future__ import annotations

import inspect
import re
from itertools import pairwise

import pytest

from peernet import errors
from peernet.errors import PeerNetError

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
    refused = errors.RefusedByPeerError("no", "busy", 5.0, do_not_redial=True)
    assert (str(refused), refused.reason, refused.retry_after, refused.do_not_redial) == ("no", "busy", 5.0, True)
    assert errors.RefusedByPolicyError("no", "blocked_networks").rule == "blocked_networks"
    assert errors.RemoteProtocolError("no", "bad_packet").reason == "bad_packet"
    assert errors.ChannelClosedError("no", "shutdown").reason == "shutdown"
    assert errors.ConnectError("no").identifier == ""


def test_parents_are_drawn_before_their_children() -> None:
    order = list(drawn_tree())
    assert order[0] == "PeerNetError"
    assert all(earlier != later for earlier, later in pairwise(order))
