"""The control socket: one line of JSON for each request, answer and event."""
