"""The group of commands and its global options."""

from __future__ import annotations

import click
from click.core import ParameterSource

from peernet._version import __version__
from peernet.cli.base import NodeGroup, output_option, verbosity_options
from peernet.cli.commands import bans, checks, configuration, identity, messages, node, outbox, peers, pending, trust
from peernet.cli.session import Session


def _check_home(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value == "":  # of a variable in a script that is not set; click takes an empty PEERNET_HOME as not set
        raise click.BadParameter("it is empty; give a folder, or leave it out for the default one.")
    return value


@click.group(cls=NodeGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="peernet-node %(version)s")
@click.option(
    "--home",
    metavar="FOLDER",
    envvar="PEERNET_HOME",
    show_envvar=True,
    callback=_check_home,
    help="Where the node keeps its data.",
)
@click.pass_context
def cli(context: click.Context, home: str | None) -> None:
    """Run a node in a peer-to-peer network, and talk to it.

    A node has a home folder with its key, its settings, and what it knows of others. Where a PEER is
    asked for, write its identifier, the beginning of it, or an address: peer://identifier@host:port.
    """
    session = context.ensure_object(Session)
    session.folder = home
    if context.get_parameter_source("home") is ParameterSource.COMMANDLINE:
        session.named_home = home
    session.log_to()


cli.params += [*verbosity_options(), output_option(envvar="PEERNET_OUTPUT")]

for _module in (identity, node, peers, messages, outbox, pending, trust, bans, configuration, checks):
    for _command in _module.COMMANDS:
        cli.add_command(_command)
