"""The token extraction command in a process of its own, which writes a byte to a file for every recording it encodes.

python counting_tokenize.py COUNT_FILE OPTION...
"""

from __future__ import annotations

import os
import sys
import time

from torch import Tensor

from espnet_tse_gen.bin import codec_tokenize
from espnet_tse_gen.codec.mel import MelCodec
from espnet_tse_gen.utils.errors import run_main

count = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
encode_row = MelCodec._encode_row


def counted(codec: MelCodec, wav: Tensor) -> tuple[Tensor, Tensor]:
    # The codec is too quick to be killed in the middle of anything.
    time.sleep(0.01)
    os.write(count, b".")
    return encode_row(codec, wav)


MelCodec._encode_row = counted  # type: ignore[method-assign]
run_main(codec_tokenize.main)
