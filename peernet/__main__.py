"""The program ``peernet-node``, also ``python -m peernet``. The only module that patches."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    from peernet.cli.main import cli
    from peernet.cli.session import Session

    cli.main(prog_name="peernet-node", obj=Session(prepare=patch))


def patch() -> None:
    """Make the standard library cooperative.

    Commands that run a network call this before they import it; the others start
    quicker without gevent. What is imported until then takes nothing out of the
    patched modules by name.
    """
    from gevent import monkey

    monkey.patch_all()


if __name__ == "__main__":
    main()
