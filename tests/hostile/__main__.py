"""All attacks at full length, about half an hour: ``python -m tests.hostile [NAME...]``."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile import attacks, bombs, floods, idle, lengths, mutations, raising, words
from tests.hostile.honest import Figures
from tests.hostile.node import Program, Victim

CHANNELS = 5000  # idle ones

Attack = Callable[[Path], Figures]


def on_node(attack: Callable[[Victim], Figures], *arguments: str, verbose: bool = False, **limits: Any) -> Attack:
    """An attack on a node with these arguments and limits; everything else is as usual."""

    def run(folder: Path) -> Figures:
        with Victim(folder / "home", *arguments, verbose=verbose, **limits) as victim:
            return attack(victim)

    return run


def comebacks(folder: Path) -> Figures:
    with Program(folder / "log", bans_everybody=True) as program:
        return floods.comebacks(program)


def many_idle(folder: Path) -> Figures:
    missing = idle.raise_limit(CHANNELS)
    if missing:
        return {"not measured": missing}
    return on_node(lambda victim: idle.idle(victim, channels=CHANNELS), **idle.limits_for(CHANNELS))(folder)


# Without descriptors to defend, all places are open.
OPEN_DOORS: dict[str, Any] = {"max_handshakes": 4096, "early_drop_from": 4096, "handshake_timeout": 60}
NO_RATE: dict[str, Any] = {"untrusted_frame_rate": 0}
ATTACKS: dict[str, Attack] = {
    "crowd": on_node(attacks.crowd),
    "trickle": on_node(attacks.trickle),
    "dribble": on_node(attacks.dribble),
    "no_descriptors": on_node(attacks.no_descriptors, **OPEN_DOORS),
    "emfile": on_node(attacks.emfile),
    "churn": on_node(attacks.churn),
    "flood": on_node(attacks.flood),
    "lengths": on_node(lengths.lengths),
    "bombs": on_node(lambda victim: bombs.bombs(victim, shots=100)),
    "barrage_of_one": on_node(lambda victim: bombs.barrage(victim, peers=1)),
    "barrage_of_eight": on_node(bombs.barrage),
    "raising": lambda folder: raising.raising(folder / "log"),
    "idle": many_idle,
    "mutations": on_node(mutations.mutations, "--insecure", session_ttl=1),
    "mutations_over_tls": on_node(lambda one: mutations.mutations(one, sessions=5000, tls=True), session_ttl=1),
    "acknowledgements": on_node(floods.acknowledgements, **NO_RATE),
    "heartbeats": on_node(floods.heartbeats, **NO_RATE),
    "unwanted": on_node(floods.unwanted, **NO_RATE),
    "questions": on_node(floods.questions),
    "deaf": on_node(floods.deaf, **NO_RATE),
    "silent": on_node(floods.silent),
    "rude": on_node(floods.rude, max_inbound=2000),  # some of the goodbyes leave a session that waits
    "impostors": on_node(floods.impostors),
    "comebacks": comebacks,
    "reconnects": on_node(lambda victim: floods.reconnects(victim, attempts=20)),
    "words": on_node(words.words),
    "words_in_a_log": on_node(lambda victim: words.words(victim, connects=40_000), verbose=True),
}


def main() -> None:
    for name in sys.argv[1:] or ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            figures = ATTACKS[name](Path(folder))
            print(f"{name} ({time.monotonic() - began:.0f} s): {json.dumps(figures, indent=2)}", flush=True)


if __name__ == "__main__":
    main()
