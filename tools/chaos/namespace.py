"""A network of its own for one process, which can fail as networks do: without a word to either side. Linux only."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWUSER = 0x10000000  # <linux/sched.h>
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914  # <linux/sockios.h>
IFF_UP = 1  # <linux/if.h>


class NotPermittedHere(Exception):
    """This system does not let this process have a network of its own."""


class OwnNetwork:
    """A loopback interface that nobody else sees. Make it before the process has threads.

    Raises:
        NotPermittedHere: the system does not allow it.
    """

    def __init__(self) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            self._set_flags(IFF_UP)
        except (OSError, AttributeError) as error:
            raise NotPermittedHere(str(error)) from error

    def take_down(self) -> None:
        """What is sent from now on gets lost, and nobody is told."""
        self._set_flags(0)

    def _set_flags(self, flags: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags))
