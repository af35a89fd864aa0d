"""ESPnet tasks: class choices by name and their wiring, nothing else."""

from espnet_tse_gen.utils.quiet import import_quietly

# Before any module of this package imports ESPnet's tasks.
import_quietly()
