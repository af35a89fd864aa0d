"""LibriMix: layout, metadata, generation, and data directories."""
