"""The durable outbox: packets that wait in a file for peers that are away."""
