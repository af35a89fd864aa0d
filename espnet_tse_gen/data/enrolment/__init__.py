"""Which recordings enrol for which targets."""
