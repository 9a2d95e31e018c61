"""Breaks things on purpose, and measures what that does to peernet.

``python -m tools.chaos`` runs the scenarios: the modules of this folder that have a
``run(*, seed, **scale)``. It returns figures (figures.py), most of which have a limit, or
a mapping of numbers, whose limits from above the module has in ``LIMITS``. What raises has failed.
``LONG`` and ``SHORT`` are a module's two scales: the first to judge by, the second, of
seconds, to see in the tests that all works. The first line of a module's docstring
says what it does.

Peers that are to be killed or stopped are processes of their own (processes.py).
"""
