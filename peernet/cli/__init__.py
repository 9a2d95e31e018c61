"""The command ``peernet-node``. Importing it loads click and little else."""

from peernet.cli.main import cli

__all__ = ["cli"]
