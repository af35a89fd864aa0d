"""Recordings as arrays: rate, level, spectra, segments."""
