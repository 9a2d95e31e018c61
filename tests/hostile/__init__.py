"""Attacks on real ``peernet-node`` processes, measured from outside.

The attackers know the protocol from ``docs/protocol.rst`` and use nothing of peernet. Each attack is a function that
returns figures; ``python -m tests.hostile`` runs them all at full length, and the tests run short forms of them.
"""
