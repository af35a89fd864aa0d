"""ESPnet tasks: class choices by name and their wiring, nothing else."""
