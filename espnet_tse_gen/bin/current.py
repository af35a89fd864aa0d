"""Say whether what a stage makes is still current, for scripts: status 0 if it is, else 1; the state goes to stdout.

    state=$(python -m espnet_tse_gen.bin.current exp/m/.done exp/m/config.yaml conf/train/m.yaml dump/raw/train/wav.scp) ||
        { train && echo "${state}" > exp/m/.done; }

The first argument is the file that holds the state of the last making, the second the output, and all others are what it is
made from: options, files, and tables whose recordings count too (:func:`espnet_tse_gen.utils.state.words_state`).
"""

import sys
from collections.abc import Sequence

from espnet_tse_gen.utils.errors import UserError, run_main
from espnet_tse_gen.utils.state import is_current, words_state


def main(cmd: Sequence[str] | None = None) -> int:
    """Print the state; return 0 if the output is current (or to ``--help``), 1 if it is to be made.

    Raises:
        UserError: If fewer than two arguments are given, or a file cannot be read.
    """
    words = list(sys.argv[1:] if cmd is None else cmd)
    if words[:1] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    if len(words) < 2:
        raise UserError("expected RECORD OUTPUT [OPTION_OR_FILE ...]")
    record, output, *made_from = words
    try:
        state = words_state(made_from)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); correct its permissions") from None
    print(state)
    return 0 if is_current(record, state, output) else 1


if __name__ == "__main__":
    run_main(main)
