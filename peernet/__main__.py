"""The program ``peernet-node``, also ``python -m peernet``. The only module that patches."""

from __future__ import annotations

import os
import sys

# As peernet.node.failures.ExitCode.INTERRUPTED, which may not be loaded yet.
INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its code."""
    fill_standard_descriptors()
    try:
        from peernet.cli.main import cli
        from peernet.cli.session import Session

        cli.main(prog_name="peernet-node", obj=Session(prepare=patch))
    except KeyboardInterrupt:  # before the commands are there, which see to it themselves
        sys.exit(INTERRUPTED)


def fill_standard_descriptors() -> None:
    """Open the null device in the place of stdin, stdout and stderr where they are closed.

    Otherwise the next file or socket gets such a number, and what is meant for stdout is written into it.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one: those below it are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = os.fdopen(descriptor, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def patch() -> None:
    """Make the standard library cooperative.

    Commands that run a network call this before they import it; the others start
    quicker without gevent. What is imported until then takes nothing out of the
    patched modules by name.
    """
    from gevent import monkey
    from gevent.hub import Hub

    monkey.patch_all()
    # Ctrl-C reaches the hub, which would print a traceback before it hands it on to the command.
    Hub.NOT_ERROR = (*Hub.NOT_ERROR, KeyboardInterrupt)


if __name__ == "__main__":
    main()
