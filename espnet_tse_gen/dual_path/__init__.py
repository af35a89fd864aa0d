"""The dual-path extractor: attention over time and over bands of the spectrum in turn, in plain PyTorch."""
