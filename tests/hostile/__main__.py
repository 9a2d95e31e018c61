"""All attacks at full length, some two minutes: ``python -m tests.hostile [NAME...]``."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile import attacks
from tests.hostile.node import Victim

# Attack -> limits of the victim that differ from the defaults. Without descriptors to defend, all places are open.
ATTACKS: dict[str, tuple[Callable[[Victim], dict[str, Any]], dict[str, Any]]] = {
    "crowd": (attacks.crowd, {}),
    "trickle": (attacks.trickle, {}),
    "dribble": (attacks.dribble, {}),
    "no_descriptors": (
        attacks.no_descriptors,
        {"max_handshakes": 4096, "early_drop_from": 4096, "handshake_timeout": 60},
    ),
    "emfile": (attacks.emfile, {}),
    "churn": (attacks.churn, {}),
    "flood": (attacks.flood, {}),
}


def main() -> None:
    for name in sys.argv[1:] or ATTACKS:
        attack, limits = ATTACKS[name]
        with tempfile.TemporaryDirectory() as folder, Victim(Path(folder) / "home", **limits) as victim:
            print(f"{name}: {json.dumps(attack(victim), indent=2)}", flush=True)


if __name__ == "__main__":
    main()
