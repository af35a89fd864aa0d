"""Extraction with a trained model: recordings in, a voice out."""
