"""Tests of ``espnet_tse_gen.decoding``; the properties are numbered as in the specification (P1, P2, ...)."""
