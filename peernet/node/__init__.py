"""The running node: settings, requests over the control socket, and events as JSON."""
