"""Codecs: waveform to discrete codes and back, one file per family behind one written contract."""
