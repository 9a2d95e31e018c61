"""One life with one peer, over as many connections as it takes."""
