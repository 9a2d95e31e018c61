"""The protocol without I/O: bytes and values in, values and bytes out.

``framing`` cuts bytes into frames, ``packets`` reads and writes one frame,
``connection`` says which packets may travel now.
"""
