"""Iterative masked decoding: options, schedule, strategies and the loop, for any network behind a callable."""
