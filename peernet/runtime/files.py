"""Files that survive a power cut, and never exist by half."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk too: without that a power cut loses a file that was just made.

    Raises:
        OSError: the folder cannot be opened.
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist yet, whole or not at all, readable as ``mode`` from its first byte.

    Raises:
        OSError: it exists, or cannot be written.
        ValueError: the path is none.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike rename, refuses to replace what is there
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()
