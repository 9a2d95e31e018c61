"""Store: one kind of state file, whose content comes and goes as a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from peernet.state.files import load, read, save

Content = TypeVar("Content")


@dataclass(frozen=True)
class Store(Generic[Content]):
    """How the content of a state file becomes plain values, and is made of them again.

    Attributes:
        names: what may stand in the file.
        to_plain: the content as plain values.
        from_plain: the content in plain values; raises one of :data:`~peernet.state.files.DAMAGES` if they are wrong.
        empty: makes what is there as long as there is no file.
    """

    names: tuple[str, ...]
    to_plain: Callable[[Content], dict[str, Any]]
    from_plain: Callable[[dict[str, Any]], Content]
    empty: Callable[[], Content]

    def save(self, path: Path, content: Content) -> None:
        """Keep the content.

        Raises:
            HomeError: the file cannot be written.
        """
        save(path, self.to_plain(content))

    def load(self, path: Path, *, look_only: bool = False) -> Content:
        """What is kept in ``path``; what is empty if there is no such file, or it is damaged.

        Args:
            path: the file.
            look_only: leave a damaged file where it is.

        Raises:
            HomeError: it cannot be read, or a newer peernet has written it.
        """
        return load(path, self.check, self.empty(), look_only)

    def check(self, path: Path) -> Content:
        """What is in a file.

        Raises:
            HomeError: a newer peernet has written it.
            OSError: it cannot be read.
            ValueError: or another of :data:`~peernet.state.files.DAMAGES`: it is damaged.
        """
        return self.from_plain(read(path, self.names))
