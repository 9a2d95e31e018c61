"""Measures peernet beside the other ways to move messages between two processes.

``python -m tools.bench`` runs every scenario (scenarios.py) on every system
(systems/), the systems taking turns round by round, so that a machine that slows
down for a while slows all of them. report.py prints medians and ratios, targets.py
says which of the project's promises they keep.
"""
