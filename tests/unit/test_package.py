from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import peernet

LOOK = """
import json, socket, sys
before = socket.socket, socket.create_connection
import peernet
print(json.dumps({
    "version": peernet.__version__,
    "listed": dir(peernet),
    "loaded": sorted(sys.modules),
    "patched": (socket.socket, socket.create_connection) != before,
}))
"""


@pytest.fixture(scope="module")
def fresh() -> dict[str, object]:
    """What a new interpreter sees after ``import peernet``."""
    ran = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=60, check=True)
    seen: dict[str, object] = json.loads(ran.stdout)
    return seen


@pytest.mark.parametrize(
    "library", ["gevent", "greenlet", "google.protobuf", "OpenSSL", "cryptography", "click", "rich"]
)
def test_importing_peernet_loads_no_library(library: str, fresh: dict[str, object]) -> None:
    assert library not in fresh["loaded"]  # type: ignore[operator]


def test_importing_peernet_loads_none_of_its_modules_but_the_version(fresh: dict[str, object]) -> None:
    loaded = [name for name in fresh["loaded"] if name.startswith("peernet")]  # type: ignore[attr-defined]
    assert loaded == ["peernet", "peernet._version"]


def test_importing_peernet_patches_nothing(fresh: dict[str, object]) -> None:
    assert fresh["patched"] is False


def test_the_public_names_are_listed(fresh: dict[str, object]) -> None:
    assert fresh["listed"] == dir(peernet) == sorted(peernet.__all__)
    assert fresh["version"] == peernet.__version__


@pytest.mark.parametrize("name", peernet.__all__)
def test_every_public_name_is_the_one_of_its_module(name: str) -> None:
    found = getattr(peernet, name)
    if name != "__version__":
        home = f"peernet.{table()[name]}"
        assert found is getattr(importlib.import_module(home), name)
        assert found.__module__ == home


def table() -> dict[str, str]:
    """Where the package finds its names: the only dictionary in its source."""
    tree = ast.parse(Path(peernet.__file__).read_text(encoding="utf-8"))
    (one,) = [one.value for one in tree.body if isinstance(one, ast.Assign) and isinstance(one.value, ast.Dict)]
    found: dict[str, str] = ast.literal_eval(one)
    return found


def imported_for_type_checkers() -> list[tuple[str, str, str | None]]:
    """Each import below ``if TYPE_CHECKING:`` as its module, the name there, and the name here."""
    tree = ast.parse(Path(peernet.__file__).read_text(encoding="utf-8"))
    (block,) = [one for one in tree.body if isinstance(one, ast.If)]
    imports = [one for one in block.body if isinstance(one, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return [(str(one.module), alias.name, alias.asname) for one in imports for alias in one.names]


def test_type_checkers_are_told_the_names_that_the_table_has() -> None:
    told = [(name, module) for module, name, _ in imported_for_type_checkers()]
    assert sorted(told) == sorted((name, f"peernet.{home}") for name, home in table().items())


def test_strict_type_checkers_take_every_name_as_exported() -> None:
    assert [name for _, name, renamed in imported_for_type_checkers() if renamed != name] == []


def listed_literally(module: str) -> list[str]:
    """``__all__`` of a module as type checkers read it, which run nothing."""
    path = importlib.import_module(module).__file__
    assert path is not None
    for one in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and one.targets[0].id == "__all__":
            names: list[str] = ast.literal_eval(one.value)
            return names
    raise AssertionError(f"{module} has no __all__")


def test_the_list_of_public_names_is_literal_and_complete() -> None:
    assert sorted(listed_literally("peernet")) == sorted(["__version__", *table()])


def test_the_names_of_the_testing_package_are_listed_literally() -> None:
    testing = importlib.import_module("peernet.testing")
    assert listed_literally("peernet.testing") == testing.__all__
    assert [name for name in testing.__all__ if not hasattr(testing, name)] == []


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'peernet' has no attribute 'PeerNetwrk'"):
        peernet.PeerNetwrk  # noqa: B018


def test_using_the_library_patches_nothing() -> None:
    look = "import socket, threading, time; import peernet; peernet.PeerNetwork; from gevent import monkey; "
    look += "print([name for name in ('socket', 'threading', 'time') if monkey.is_module_patched(name)])"
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
