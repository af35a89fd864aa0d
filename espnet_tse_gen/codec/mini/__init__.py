"""The ``mini`` codec: its network and its part of the codecs' contract."""
