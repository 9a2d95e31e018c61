"""From a raw stream, dialled or accepted, to an introduced peer, within limits."""
