"""What is left to chance, for every module that draws; a simulation puts its own generator here.

Use it as ``chance.uniform(...)``: a name that is imported from here keeps the chance of the machine.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

uniform: Callable[[float, float], float] = random.uniform
"""``uniform(least, most)``: how long to wait, where nobody gains by guessing it."""

randbits: Callable[[int], int] = secrets.randbits
"""``randbits(count)``: a number that nobody can guess."""
