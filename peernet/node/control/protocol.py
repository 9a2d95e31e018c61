"""What commands and a running node say to each other: lines of JSON.

A request is ``{"command": ..., "arguments": {...}}``. The answer is ``{"result": ...}`` or
``{"error": "a sentence", "exit_code": n}``; after the answer to ``listen`` follows one line
for each event.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from peernet.node.failures import RequestError

# A frame of 1 MiB is 1.4 MiB in base64, and limits can be raised.
MAX_LINE = 64 * 1024 * 1024


class Request(NamedTuple):
    """What a command asks for."""

    command: str
    arguments: dict[str, Any]


def encode(message: dict[str, Any]) -> bytes:
    """A message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in a line.

    Raises:
        ValueError: it is none.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def decode_request(line: bytes) -> Request:
    """The request in a line.

    Raises:
        RequestError: it is none.
    """
    try:
        message = decode(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the line is no JSON object ({error})") from error
    command, arguments = message.get("command"), message.get("arguments", {})
    if not isinstance(command, str):
        raise RequestError('it has no text as "command"')
    if not isinstance(arguments, dict):
        raise RequestError('its "arguments" are no object')
    return Request(command, arguments)
