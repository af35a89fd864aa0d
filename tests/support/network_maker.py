"""Small random networks in the formats of the released ones, for the scores that need such a network."""

from pathlib import Path
from typing import Any

import torch
from hf_maker import need_transformers

from espnet_tse_gen.utils.files import write_yaml

WAV2VEC = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": [8, 8],
    "conv_kernel": [10, 8], "conv_stride": [16, 20], "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 2,
}  # fmt: skip


def write_wavlm(folder: Path) -> Any:
    """A WavLM-SV as released: configs, and weights as PyTorch wrote them in 2021, with the old names of a convolution."""
    library = need_transformers()
    torch.manual_seed(0)
    config = library.WavLMConfig(
        **WAV2VEC, tdnn_dim=[8] * 5, tdnn_kernel=[5, 3, 3, 1, 1], tdnn_dilation=[1, 2, 3, 1, 1], xvector_output_dim=8
    )
    model = library.WavLMForXVector(config).eval()
    folder.mkdir(parents=True)
    config.architectures = ["WavLMForXVector"]
    config.save_pretrained(folder)
    library.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for name, value in model.state_dict().items():
        for new, before in old.items():
            name = name.replace(new, before)
        state[name] = value
    assert any(name.endswith("weight_g") for name in state)
    torch.save(state, folder / "pytorch_model.bin")
    return model


def write_hubert(folder: Path) -> Any:
    """A HuBERT as released, with 12 layers, all narrow."""
    library = need_transformers()
    torch.manual_seed(1)
    model = library.HubertModel(library.HubertConfig(**{**WAV2VEC, "num_hidden_layers": 12})).eval()
    model.save_pretrained(folder)
    return model


def write_whisper(folder: Path) -> Any:
    """A multilingual Whisper as released: configs, byte-level tokenizer with the special tokens, weights."""
    library = need_transformers()
    torch.manual_seed(2)
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|transcribe|>",
        "<|translate|>",
        "<|notimestamps|>",
    ]
    letters = list(bytes_to_unicode().values())
    tokenizer = library.WhisperTokenizer(
        vocab={token: index for index, token in enumerate(letters + special)}, merges=[]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.save_pretrained(folder)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    library.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = library.WhisperConfig(
        vocab_size=len(letters) + len(special), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_target_positions=24, eos_token_id=end, bos_token_id=end, pad_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    model = library.WhisperForConditionalGeneration(config).eval()
    model.generation_config = library.GenerationConfig(
        is_multilingual=True, lang_to_id={"<|en|>": ids["<|en|>"]}, no_timestamps_token_id=ids["<|notimestamps|>"],
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")}, max_length=20,
        eos_token_id=end, bos_token_id=end, pad_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    model.save_pretrained(folder)
    return model


def write_espnet_speaker(folder: Path) -> Any:
    """A packed model of ESPnet's speaker task as the hub has them: ``meta.yaml``, and the exp directory below it."""
    from espnet_tse_gen.utils.quiet import import_quietly

    import_quietly()
    from espnet2.tasks.spk import SpeakerTask

    exp = folder / "save_exp/spk_tiny"
    exp.mkdir(parents=True)
    choices = {"frontend": "melspec_torch", "encoder": "xvector", "pooling": "stats", "projector": "xvector"}
    command = [word for name, value in choices.items() for word in (f"--{name}", value)]
    command += ["--encoder_conf", "ndim=8", "--encoder_conf", "output_size=8", "--projector_conf", "output_size=8"]
    args = SpeakerTask.get_parser().parse_args(
        [*command, "--output_dir", str(exp), "--loss", "softmax", "--spk_num", "3"]
    )
    torch.manual_seed(3)
    model = SpeakerTask.build_model(args).eval()
    # Statistics of a training that never was, so that the embeddings differ.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
    torch.save(model.state_dict(), exp / "40epoch.pth")
    plain = {
        name: value
        for name, value in vars(args).items()
        if isinstance(value, (str, int, float, list, dict, type(None)))
    }
    write_yaml(exp / "config.yaml", plain)
    write_yaml(
        folder / "meta.yaml",
        {
            "espnet": "202511",
            "files": {"model_file": "save_exp/spk_tiny/40epoch.pth"},
            "yaml_files": {"train_config": "save_exp/spk_tiny/config.yaml"},
        },
    )
    return model
