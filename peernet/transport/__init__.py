"""Transports: the only modules that touch sockets.

``tcp`` is plain, ``tls`` wraps it, ``memory`` connects two ends in one process.
"""
