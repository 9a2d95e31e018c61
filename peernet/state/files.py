"""State files: JSON with a version and a checksum, replaced as a whole, and set aside when damaged."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from peernet.errors import HomeError
from peernet.runtime.files import sync_folder
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

# The first version had no checksum.
VERSION = 2
# Many times what the largest address book takes; a file beyond it is not ours.
MAX_FILE = 64 * 1024 * 1024
# What reading a file raises that somebody has changed by hand, or that is another one altogether.
DAMAGES = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)

Content = TypeVar("Content")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file, so that whatever happens either the old or the new content is there.

    Raises:
        HomeError: it cannot be written.
    """
    try:
        # A name that nobody has or can foresee: no other save writes there, and no link waits there.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_beginning_of_temporary(path))
        try:
            _fill(descriptor, content)
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        sync_folder(path.parent)
    except OSError as error:
        raise HomeError(f"cannot write {path} ({error.strerror}); make room, or choose another --home") from error


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove what saves have left that were ended by SIGKILL or a power cut. Nobody may be saving these files."""
    for path in paths:
        for temporary in path.parent.glob(_beginning_of_temporary(path) + "*"):
            with suppress(OSError):  # it harms nobody
                temporary.unlink()


def save(path: Path, content: dict[str, Any]) -> None:
    """Keep plain values.

    Raises:
        HomeError: the file cannot be written.
    """
    content = {"version": VERSION, **content}
    signed = {"version": VERSION, "checksum": checksum(content), **content}
    write_atomically(path, json.dumps(signed, indent=1).encode() + b"\n")


def load(path: Path, parse: Callable[[Path], Content], default: Content, look_only: bool) -> Content:
    """What ``parse(path)`` returns; the default if there is no such file, or it is damaged.

    Args:
        path: the file.
        parse: reads it, all or nothing; raises one of :data:`DAMAGES` if it is damaged.
        default: what an empty file would say.
        look_only: leave a damaged file where it is.

    Raises:
        HomeError: it cannot be read, or a newer peernet has written it.
    """
    try:
        return parse(path)
    except FileNotFoundError:
        return default
    except OSError as error:
        raise HomeError(f"cannot read {path} ({error.strerror}); check its permissions") from error
    except DAMAGES as error:
        if look_only:
            logger.warning("%s is damaged (%s); going on as if it were empty, as the next `run` will", path, error)
        else:
            _set_aside(path, error)
        return default


def read(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The plain values in a file. One without a checksum is taken as it is: people may edit it.

    Args:
        path: the file.
        names: what may be in it.

    Raises:
        HomeError: a newer peernet has written it.
        OSError: it cannot be read.
        ValueError: or another of :data:`DAMAGES`: it is damaged.
    """
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    content = dict(json.loads(path.read_bytes()))
    said = content.pop("checksum", None)
    if said is not None and said != checksum(content):
        raise ValueError("its checksum is wrong; if you have changed it by hand, remove the line with the checksum")
    _check_version(path, content.pop("version"))
    unknown = sorted(set(content) - set(names))
    if unknown:
        raise ValueError(f"there is no list {unknown[0]!r}")
    return content


def checksum(content: dict[str, Any]) -> str:
    """The checksum of plain values, however they are laid out in a file."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _check_version(path: Path, version: object) -> None:
    if type(version) is not int or version < 1:
        raise ValueError(f"there is no version {version!r} of it")
    if version > VERSION:
        raise HomeError(f"{path} was written by a newer peernet; update this one")


def _beginning_of_temporary(path: Path) -> str:
    return f".{path.name}."


def _fill(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb") as file:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # whatever the umask takes away or leaves
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _set_aside(path: Path, error: Exception) -> None:
    """Keep a damaged file where nothing overwrites it, and say so."""
    kept = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    try:
        path.replace(kept)
    except OSError as failure:
        raise HomeError(f"{path} is damaged and cannot be moved away ({failure.strerror}); remove it") from failure
    logger.warning(
        "%s is damaged (%s) and was set aside as %s; going on as if it were empty: repair it and move it back "
        "while no node is running",
        path,
        error,
        kept.name,
    )
