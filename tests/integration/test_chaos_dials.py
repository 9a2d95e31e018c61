"""Two peers that dial each other at the same moment."""

from __future__ import annotations

import pytest

from peernet import ChannelState
from tests.integration.meetings import Networks
from tests.support import wait_until
from tools.chaos import dials

pytestmark = pytest.mark.stress


def test_simultaneous_dials_make_one_channel() -> None:
    figures = dials.run(seed=1, **dials.SHORT)
    assert [figure for figure in figures if figure.missed] == []


def test_without_tls_or_identifier_a_dial_finds_the_channel_that_the_other_side_has_made(networks: Networks) -> None:
    # Of two connections the one is kept that the smaller identifier has dialled.
    one, other = sorted((networks(insecure=True), networks(insecure=True)), key=lambda network: network.identifier)
    one.connect(other.addresses[0])
    wait_until(lambda: other.active_peer_channels)
    back = other.connect(one.addresses[0], timeout=60)
    # Which of the two stays depends on the identifiers, so it may be the newer one on both sides.
    assert other.active_peer_channels == [back]
    wait_until(lambda: [channel.state for channel in one.active_peer_channels] == [ChannelState.OPEN])
