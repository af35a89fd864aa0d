"""A local page that extracts a voice: ``tse-gen serve``."""
