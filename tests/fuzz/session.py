"""Sessions: exactly once under any cuts between honest peers, and no lie of a hostile one leads astray.

Each session has its book of receipts, and is used as a channel uses it.

Input: a byte that chooses between the two, then one byte for each step.
"""

from __future__ import annotations

from tests.fuzz.fates import small_pages
from tests.fuzz.honest_session import honest
from tests.fuzz.hostile_session import hostile
from tests.fuzz.session_parts import small_packets

MAX_STEPS = 400


def fuzz(data: bytes) -> None:
    if data:
        with small_pages(), small_packets():
            (hostile if data[0] & 1 else honest)(data[1:MAX_STEPS])
