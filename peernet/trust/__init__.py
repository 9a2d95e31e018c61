"""Decisions: whom to admit, what to permit, whom to ban. Pure: time and state are passed in."""
