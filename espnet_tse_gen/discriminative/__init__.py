"""Discriminative extractors in the time domain, SpEx+ and a reconstruction of MC-SpEx: encoder, extractors and decoder."""
