"""What every command has: ``-o`` after its name too, and errors that become one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from peernet.cli.output import FORMATS
from peernet.cli.session import Session
from peernet.config import check_network_name
from peernet.errors import AddressError, ConfigurationError, PeerNetError
from peernet.node.directory import check_beginning, check_listen, check_peer, ip_network_of
from peernet.node.failures import CheckFailedError, ExitCode, exit_code_of
from peernet.peers.address import PeerAddress
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable

logger = get_logger(__name__)

# An error may quote what a peer has written. Characters.
MAX_SENTENCE = 1000
# Unknown at import: how long a whole connection may take.
DEFAULT_TIMEOUT = 10.0


def _set_format(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).output_format = value


def output_option(*, envvar: str | None = None) -> click.Option:
    """The option ``-o``."""
    return click.Option(
        ["-o", "--output"],
        type=click.Choice(FORMATS),
        envvar=envvar,
        show_envvar=envvar is not None,
        expose_value=False,
        callback=_set_format,
        help="How to show data: a table for people, one JSON document, or one JSON object per line.",
    )


def _set_verbosity(context: click.Context, parameter: click.Parameter, value: int) -> None:
    session = context.ensure_object(Session)
    session.verbosity += -value if parameter.name == "quiet" else value
    session.log_to()


def verbosity_options() -> list[click.Option]:
    """The options ``-v`` and ``-q``, which add up wherever they stand."""
    words = {"verbose": "Log more to stderr; twice for even more.", "quiet": "Log only errors to stderr."}
    return [
        click.Option([f"-{name[0]}", f"--{name}"], count=True, expose_value=False, callback=_set_verbosity, help=text)
        for name, text in words.items()
    ]


class NodeCommand(click.Command):
    """A command that has ``-o``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(output_option())


class NodeGroup(click.Group):
    """A group of such commands, where errors end the program with one sentence."""

    command_class = NodeCommand
    group_class = type

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with _unexpected_told():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _silent_when_interrupted():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _silent_when_interrupted():
                return super().invoke(ctx)
        except PeerNetError as error:
            session = ctx.ensure_object(Session)
            for mistake in error.mistakes if isinstance(error, CheckFailedError) else (str(error),):
                click.echo(f"Error: {session.hinted(printable(mistake, MAX_SENTENCE))}", err=True)
            ctx.exit(exit_code_of(error))


@contextmanager
def _silent_when_interrupted() -> Iterator[None]:
    """Where Ctrl-C ends, before click makes a message of it."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


@contextmanager
def _unexpected_told() -> Iterator[None]:
    """Where errors end that no command expects: those of the system, such as a full disk, and those of peernet."""
    try:
        yield
    except OSError as error:
        _fail(_sentence_of(error))
    except Exception as error:
        logger.info("how the error came about", exc_info=True)
        what = printable(f"{type(error).__name__}: {error}", MAX_SENTENCE)
        _fail(f"this is a mistake in peernet ({what}); `peernet-node -v` tells more, please report it")


def _sentence_of(error: OSError) -> str:
    what = f"{error.filename}: {error.strerror}" if error.filename else f"cannot write to stdout ({error.strerror})"
    return f"{what}; make room" if error.errno == errno.ENOSPC else what


def _fail(sentence: str) -> NoReturn:
    with suppress(OSError):  # stderr may be as full
        click.echo(f"Error: {sentence}", err=True)
    _discard_output()
    sys.exit(ExitCode.ERROR)


def _discard_output() -> None:
    """Let what is still buffered go nowhere: Python would try to write it once more at the end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
                continue
            with suppress(OSError, ValueError):  # a test's stream has no descriptor
                os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


SECONDS = click.FloatRange(min=0.001, max=86400)
SECONDS.name = "number of seconds"  # or click says of 'abc' that it is "not a valid float range"
# Seconds in each unit that people may write.
UNITS = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}


def check_duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Callback for an option that takes a time such as ``90``, ``90s``, ``15min``, ``1h`` or ``7d``: in seconds."""
    if value is None:
        return None
    match = re.match(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-z]*)\Z", value)
    if match is None or match[2] not in UNITS or not float(match[1]):
        raise click.BadParameter(f"{value!r} is no time; write 90s, 15min, 1h, 7d, or a number of seconds.")
    return float(match[1]) * UNITS[match[2]]


def check_peer_argument(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Callback for an argument that names a peer."""
    try:
        return None if value is None else check_peer(value)
    except AddressError as error:
        raise click.BadParameter(str(error)) from error


def check_beginnings(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Callback for an option that takes beginnings of identifiers."""
    try:
        return tuple(map(check_beginning, values))
    except AddressError as error:
        raise click.BadParameter(str(error)) from error


def check_entry(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Callback for an argument that names a peer or a network."""
    try:
        return (
            value if value is None or ip_network_of(value) else check_peer(value, ", or a network such as 10.0.0.0/8")
        )
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def check_listen_addresses(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Callback for an option that takes addresses to listen on."""
    try:
        for value in values:
            check_listen(value)
    except AddressError as error:
        raise click.BadParameter(str(error)) from error
    return values


def check_addresses(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Callback for an option that takes addresses."""
    try:
        for value in values:
            PeerAddress.parse(value)
    except AddressError as error:
        raise click.BadParameter(str(error)) from error
    return values


def check_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Callback for text that is sent: bytes that are no UTF-8 arrive here as characters that cannot be."""
    if value is not None and not is_sendable(value):
        raise click.BadParameter("it is not UTF-8 text.")
    return value


def network_option(text: str) -> Callable[[Any], Any]:
    """The option ``--network``.

    Args:
        text: its help.
    """
    return click.option("-n", "--network", metavar="NAME", callback=_check_network, help=text)


def _check_network(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if check_text(context, parameter, value) is not None:
        try:
            check_network_name(value)
        except ConfigurationError as error:
            raise click.BadParameter(str(error)) from error
    return value


def is_sendable(text: str) -> bool:
    """Whether the text can be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def peer_argument(function: Any) -> Any:
    """The argument PEER."""
    return click.argument("peer", callback=check_peer_argument)(function)


def timeout_option(function: Any) -> Any:
    """The option ``--timeout``."""
    return click.option(
        "-t",
        "--timeout",
        type=SECONDS,
        default=DEFAULT_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="How long it may take altogether.",
    )(function)
