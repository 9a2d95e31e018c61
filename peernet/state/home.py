"""The home folder of a node: where everything is, and who may use it now."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from peernet.errors import HomeError, HomeInUseError
from peernet.runtime.forks import close_in_children

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What sockaddr_un holds on every system that has it (Linux 107, macOS 103).
MAX_SOCKET_PATH = 100
# How long a program that means to stay waits for one that only looks, or does something short. Seconds.
PATIENCE = 1.0


class HeldError(HomeInUseError):
    """Another process holds the lock.

    Attributes:
        process: its id; 0 if it has not written it yet.
    """

    def __init__(self, home: Home, note: bytes) -> None:
        self.process = int(note) if note.isdigit() else 0
        super().__init__(
            f"another program (process {self.process or 'unknown'}) uses the home folder {home}; stop it, which "
            f"`peernet-node --home {home} stop` does if it is a node, or choose another folder"
        )


def default_folder() -> str:
    """The platform's folder for a node's data.

    Raises:
        HomeError: there is none, because nothing says where this user's files are.
    """
    from platformdirs import user_data_dir

    try:
        return user_data_dir("peernet", appauthor=False)
    except RuntimeError as error:  # no HOME, and the system does not know the user: common in containers
        raise HomeError("this user has no home folder (HOME is not set); name a folder with --home") from error


class Home:
    """The folder that holds all that a node keeps.

    ``key.pem`` and ``certificate.pem`` belong to :class:`~peernet.peers.identity.Identity`.

    Args:
        folder: its path; it need not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            self.folder = Path(folder).expanduser().absolute()
        except (RuntimeError, OSError) as error:  # ~nobody, or the current folder is gone
            raise HomeError(
                f"the home folder {folder} cannot be found ({error}); choose another with --home"
            ) from error
        self.config_file = self.folder / "config.toml"
        self.trust_file = self.folder / "trust.json"
        self.peers_file = self.folder / "peers.json"
        self.bans_file = self.folder / "bans.json"
        self.outbox_file = self.folder / "outbox.db"
        self.lock_file = self.folder / "lock"
        self.socket_file = self.folder / "control.sock"

    def __str__(self) -> str:
        return str(self.folder)

    def create(self) -> None:
        """Make the folder, readable by its owner only. Idempotent.

        Raises:
            HomeError: it cannot be made, is no folder, or others can change what is in it.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            danger = self.danger()
        except OSError as error:
            raise self.unusable(error) from error
        if danger:
            raise HomeError(danger)

    def danger(self) -> str:
        """What lets others change what is in the folder, as a sentence; empty if nothing does.

        Raises:
            OSError: it cannot be looked at.
        """
        if not hasattr(os, "geteuid"):  # Windows
            return ""
        found = os.stat(self.folder)
        if found.st_uid != os.geteuid():
            return (
                f"the home folder {self} belongs to another user (id {found.st_uid}), who could read and change "
                "all that is in it; choose another with --home"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return (
                f"others can write to the home folder {self}, and so replace what is in it; "
                f"run `chmod go-w {self}`, or choose another with --home"
            )
        return ""

    def check_folder(self) -> None:
        """Pass if this is a folder, or could become one.

        Raises:
            HomeError: it is a file, or below one.
        """
        try:
            if stat.S_ISDIR(os.stat(self.folder).st_mode):
                return
        except NotADirectoryError as error:
            raise self.unusable(error) from error
        except OSError:
            return  # whoever needs it says so
        raise self.unusable(NotADirectoryError())

    def unusable(self, error: OSError) -> HomeError:
        """The error to raise when the folder cannot be used."""
        # Not Path.exists, which itself raises if a folder above cannot be searched.
        if os.path.exists(self.folder) and not os.path.isdir(self.folder):
            return HomeError(f"{self} is a file, not a folder; choose another with --home")
        return HomeError(f"the home folder {self} cannot be used ({error.strerror}); choose another with --home")

    @contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[None]:
        """Be the only one who uses this home folder, which is made if need be.

        Args:
            patience: seconds to wait for another one to be done.

        Raises:
            HomeInUseError: somebody else is.
            HomeError: the folder cannot be written.
        """
        self.create()
        with FileIO(self._open_lock(), "r+") as lock:  # whose end unlocks it; so does that of the process
            close_in_children(lock)  # or they would hold it too
            self._wait_for_lock(lock.fileno(), patience)
            yield

    def holder(self) -> int | None:
        """The process that uses this home folder now; 0 if it is not known which.

        The only way to know is to take the lock for a moment, so others need some patience.
        """
        try:
            with self.locked():
                return None
        except HeldError as error:
            return error.process

    @contextmanager
    def socket_address(self) -> Iterator[str]:
        """The address of the control socket while the context lasts, however long the folder's path is.

        Raises:
            HomeError: the path is too long for this system, or the folder cannot be read.
        """
        if len(os.fsencode(self.socket_file)) <= MAX_SOCKET_PATH:
            yield str(self.socket_file)
        elif not sys.platform.startswith("linux"):
            raise HomeError(f"the path {self} is too long for a socket; choose a shorter one with --home")
        else:
            # Linux has a short name for whatever this process has open.
            try:
                descriptor = os.open(self.folder, os.O_RDONLY)
            except OSError as error:
                raise self.unusable(error) from error
            try:
                yield f"/proc/self/fd/{descriptor}/{self.socket_file.name}"
            finally:
                os.close(descriptor)

    def _open_lock(self) -> int:
        no_links = getattr(os, "O_NOFOLLOW", 0)  # or we would empty the file that it leads to
        try:
            return os.open(self.lock_file, os.O_RDWR | os.O_CREAT | no_links, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise HomeError(f"{self.lock_file} is a symbolic link; remove it") from error
            raise self.unusable(error) from error

    def _wait_for_lock(self, descriptor: int, patience: float) -> None:
        ends = time.monotonic() + patience
        while True:
            try:
                return self._take_lock(descriptor)
            except HeldError:
                if time.monotonic() >= ends:
                    raise
            time.sleep(0.02)

    def _take_lock(self, descriptor: int) -> None:
        if fcntl is None:
            raise HomeError("this system has no file locks that peernet knows; run the node on Linux or macOS")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HeldError(self, os.pread(descriptor, 20, 0)) from error
        try:
            note = str(os.getpid()).encode()
            os.ftruncate(
                descriptor, os.pwrite(descriptor, note, 0)
            )  # in this order: it fits even when the disk is full
        except OSError as error:
            raise HomeError(
                f"cannot write {self.lock_file} ({error.strerror}); make room, or choose another --home"
            ) from error
