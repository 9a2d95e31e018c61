"""`init` and `id`: who this node is."""

from __future__ import annotations

import os

import click

from peernet.cli.base import NodeCommand
from peernet.cli.session import Session, pass_session


@click.command(cls=NodeCommand)
@pass_session
def init(session: Session) -> None:
    """Make the home folder, a key, and settings.

    What is there already is kept. `run`, `send` and `ping` make a key by themselves, so this is for
    knowing the identifier before the node runs, and for having a file to edit.
    """
    from peernet.node.settings import TEMPLATE
    from peernet.peers.identity import CERTIFICATE_FILE, KEY_FILE, Identity
    from peernet.state.files import write_atomically
    from peernet.state.home import PATIENCE

    home = session.home
    home.create()
    files = (home.folder / KEY_FILE, home.folder / CERTIFICATE_FILE, home.config_file)
    if all(map(os.path.lexists, files)):
        identity = Identity.load(home.folder)  # nothing to write, so whoever uses the home may go on
    else:
        with home.locked(PATIENCE):
            identity = Identity.load_or_create(home.folder)
            if not os.path.lexists(home.config_file):
                write_atomically(home.config_file, TEMPLATE.encode())
    session.output.record({"identifier": identity.identifier, "home": str(home), "settings": str(home.config_file)})


@click.command("id", cls=NodeCommand)
@pass_session
def show_id(session: Session) -> None:
    """Print this node's identifier."""
    from peernet.peers.identity import Identity

    identifier = Identity.load(session.home.folder).identifier
    session.output.done(identifier, {"identifier": identifier})


COMMANDS = (init, show_id)
