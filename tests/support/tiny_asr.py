"""A tiny ESPnet ASR model, trained for real on a few sentences with a SentencePiece vocabulary: what ASR scoring is
tested on. It knows its sentences by heart, and gets lost where another voice talks across them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio, read_header
from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.data.corpus import SPEECH, list_utterances
from espnet_tse_gen.utils.files import write_scp, write_yaml

RATE = 16000
SENTENCES = 6
TRAINING = {
    "token_type": "bpe",
    "batch_type": "unsorted",
    "batch_size": 4,
    "num_iters_per_epoch": 40,
    "max_epoch": 5,
    "optim": "adam",
    "optim_conf": {"lr": 0.003},
    "normalize": "utterance_mvn",
    "frontend_conf": {"fs": "16k", "n_mels": 40},
    "encoder": "conformer",
    "encoder_conf": {
        "output_size": 96,
        "linear_units": 192,
        "num_blocks": 2,
        "attention_heads": 2,
        "dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
    },
    "decoder": "transformer",
    "decoder_conf": {
        "linear_units": 64,
        "num_blocks": 1,
        "attention_heads": 2,
        "dropout_rate": 0.0,
        "positional_dropout_rate": 0.0,
        "self_attention_dropout_rate": 0.0,
        "src_attention_dropout_rate": 0.0,
    },
    "model_conf": {"ctc_weight": 0.7},
    "best_model_criterion": [["valid", "acc", "max"]],
    "keep_nbest_models": 1,
    "grad_clip": 5.0,
    "num_workers": 0,
    "num_att_plot": 0,
    "use_tensorboard": False,
    "use_matplotlib": False,
    "log_level": "WARNING",
}


@dataclass(frozen=True)
class Spoken:
    """A sentence: its id, recording (float ``[L]`` at 16 kHz) and transcript."""

    name: str
    samples: np.ndarray
    text: str


def sentences() -> tuple[list[Spoken], list[str]]:
    """The shortest sentences of the speech that ships, and all of its transcripts."""
    texts: dict[str, str] = {}
    for path in sorted(SPEECH.rglob("*.trans.txt")):
        texts |= {name: text for name, _, text in (line.partition(" ") for line in path.read_text().splitlines())}
    paths = {one.name: one.path for one in list_utterances(SPEECH, "dev-clean")}
    shortest = sorted(paths, key=lambda name: read_header(paths[name]))[:SENTENCES]
    return [Spoken(name, read_audio(paths[name], RATE)[0], texts[name]) for name in shortest], list(texts.values())


def train_asr(folder: Path, spoken: Sequence[Spoken], transcripts: Sequence[str]) -> Path:
    """Train on ``spoken`` and return the exp directory, as ``espnet2.bin.asr_train`` leaves it."""
    import sentencepiece

    (folder / "transcripts").parent.mkdir(parents=True, exist_ok=True)
    (folder / "transcripts").write_text("\n".join(transcripts) + "\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "transcripts"), model_prefix=str(folder / "bpe"), vocab_size=60, minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "bpe.model"))
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    tokens = ["<blank>", "<unk>", *(piece for piece in pieces if piece not in ("<unk>", "<s>", "</s>")), "<sos/eos>"]
    (folder / "tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")

    for one in spoken:
        write_audio(folder / f"wav/{one.name}.wav", one.samples, RATE)
    data = folder / "data"
    write_scp(data / "wav.scp", {one.name: str(folder / f"wav/{one.name}.wav") for one in spoken})
    write_scp(data / "text", {one.name: one.text for one in spoken})
    write_yaml(
        folder / "train.yaml",
        {**TRAINING, "bpemodel": str(folder / "bpe.model"), "token_list": str(folder / "tokens.txt")},
    )
    command = ["--config", str(folder / "train.yaml"), "--output_dir", str(folder / "exp/asr_tiny"), "--ngpu", "0"]
    for kind in ("train", "valid"):
        command += [f"--{kind}_shape_file", str(data / "wav.scp")]
        for table in ("wav.scp,speech,sound", "text,text,text"):
            command += [f"--{kind}_data_path_and_name_and_type", f"{data}/{table}"]

    from espnet_tse_gen.utils.quiet import import_quietly

    import_quietly()
    from espnet2.bin import asr_train

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    asr_train.main(command)
    root.handlers[:] = handlers
    root.setLevel(level)
    return folder / "exp/asr_tiny"
