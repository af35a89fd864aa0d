#!/usr/bin/env bash
# A codec for 16 kHz speech on LibriSpeech: the one that ships with the package, unless --train_config names another design.
# Name the corpus through --local_data_opts, as local/data.sh --help says, e.g.
#   ./run.sh --local_data_opts "--librispeech /corpora/LibriSpeech"
# ESPnet's SoundStream instead: ./run.sh --train_config conf/train_codec/soundstream_16k_small.yaml ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./codec.sh \
    --train_set train \
    --valid_set dev \
    --test_set test \
    --train_config conf/train_codec/mini_16k.yaml \
    "$@"
