"""`doctor` and `completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from peernet.cli.base import NodeCommand
from peernet.cli.session import Session, pass_session
from peernet.node.failures import CheckFailedError

COLUMNS = {"name": "CHECK", "ok": "OK", "message": "FOUND"}
PROGRAM = "peernet-node"


@click.command(cls=NodeCommand)
@pass_session
def doctor(session: Session) -> None:
    """Check that everything is as it should be.

    Looks at Python, the libraries, the limits of the system, and the home folder. Exits with 6 if
    something is wrong.
    """
    session.prepare()
    from peernet.environment import check_environment
    from peernet.node.health import examine_home

    findings = [*check_environment(), *examine_home(session.unchecked_home)]
    session.output.rows([vars(finding) for finding in findings], COLUMNS)
    wrong = [finding.name for finding in findings if not finding.ok]
    if wrong:
        raise CheckFailedError(f"{len(wrong)} of {len(findings)} checks failed: {', '.join(wrong)}")


@click.command(cls=NodeCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: peernet-node completion bash >> ~/.bashrc
    """
    completer = get_completion_class(shell)
    if completer is None:  # the choice above lists only those that click has
        raise click.UsageError(f"there is no completion for {shell}")
    variable = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"
    # Not through the class's own source(), which runs bash to look at its version first.
    script = completer(context.find_root().command, {}, PROGRAM, variable)
    click.echo(script.source_template % script.source_vars())


COMMANDS: tuple[click.Command, ...] = (doctor, completion)
