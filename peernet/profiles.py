"""Profiles: limits that fit together, for machines that are not the usual one.

A profile names only what differs from the defaults. What a node holds at most for its peers, if all of them
attack at once, is about ``buffer_budget``, and 64 KiB for each channel.
"""

from __future__ import annotations

from typing import Any

KIB = 1024
MIB = 1024 * KIB

PROFILES: dict[str, dict[str, Any]] = {
    # A Raspberry-like device: 512 MiB of memory, one slow core (20 ms for a handshake), a slow disk. Its 24
    # channels could keep 2.5 MiB each: 60 MiB, of which the budget is the half.
    "tiny": {
        "max_frame": 256 * KIB,
        "max_inbound": 16,
        "max_outbound": 8,
        "max_pending": 8,
        "max_handshakes": 16,
        "early_drop_from": 8,
        "max_handshakes_per_address": 4,
        "handshake_grace": 1.0,
        "accept_rate": 5.0,
        "accept_burst": 10,
        "max_accept_sources": 512,
        "descriptor_reserve": 32,
        "outbox_packets": 64,
        "outbox_bytes": 512 * KIB,
        "outbox_reserve_packets": 64,
        "outbox_reserve_bytes": 256 * KIB,
        "session_packets": 1024,
        "session_bytes": 512 * KIB,
        "session_reserve_packets": 1024,
        "session_reserve_bytes": 1280 * KIB,
        "buffer_budget": 32 * MIB,
        "untrusted_frame_rate": 200.0,
        "untrusted_frame_burst": 400,
        "max_redials": 2,
        "max_known_peers": 512,
    },
    # What NetworkConfig() is: a desktop, a laptop, or a part of another program.
    "default": {},
    # Thousands of channels: some GiB of memory, and a limit of descriptors of 8192 or more. Idle, 4,096 channels
    # need some 250 MiB. What each may keep is smaller than by default, so that 200 of them have room in the
    # budget.
    "server": {
        "max_inbound": 4096,
        "max_outbound": 256,
        "max_pending": 512,
        "max_handshakes": 256,
        "early_drop_from": 128,
        "max_accept_sources": 65_536,
        "descriptor_reserve": 256,
        "outbox_bytes": 1 * MIB,
        "session_bytes": 1 * MIB,
        "session_reserve_bytes": 2 * MIB,
        "buffer_budget": 1024 * MIB,
        "max_redials": 32,
        "max_known_peers": 65_536,
    },
}
