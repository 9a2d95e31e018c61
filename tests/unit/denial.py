"""A folder that cannot be searched, for whoever runs the tests: root could search a real one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def deny_access_below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system refuse whatever is asked about paths below a folder."""

    def denied(function: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, (str, Path)) and str(path).startswith(f"{folder}/"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *args, **options)

        return maybe

    for module, name in ((os, "stat"), (os, "lstat"), (os, "mkdir"), (os, "open"), (io, "open")):
        monkeypatch.setattr(module, name, denied(getattr(module, name)))
