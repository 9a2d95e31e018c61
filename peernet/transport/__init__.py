"""Connected streams of bytes, and the backends that dial and listen: every socket between peers.

``base`` says what a transport promises. ``tcp`` is plain, ``tls`` secures any other transport (``tls_transport`` are
the streams that come of it), and ``memory`` connects two ends in one process. ``backend`` dials and listens; the usual
one does it with ``tcp`` and ``listener``, which hangs up when ``descriptors`` run out.
"""
