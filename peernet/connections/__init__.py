"""From a raw stream, dialled or accepted, to a peer whose handshake is done, within limits."""
