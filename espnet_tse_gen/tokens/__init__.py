"""Codes of a data set, from recordings to Kaldi tables."""
