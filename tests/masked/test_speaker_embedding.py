"""A speaker embedding beside the enrolment's frames, or in their place: in the network, in training and in decoding."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_model import CONFIG, RATE, fitted_codec, mixture, voice

from espnet_tse_gen.bin import embed_speakers
from espnet_tse_gen.data.enrolment.embeddings import SpeakerEmbeddings, embed
from espnet_tse_gen.data.preprocessor import TSEGenPreprocessor
from espnet_tse_gen.inference.masked import MaskedInference
from espnet_tse_gen.masked.build import build_model
from espnet_tse_gen.utils.errors import UserError

WIDTH = 6
BESIDE = {"speaker_embedding": WIDTH}
INSTEAD = {"speaker_embedding": WIDTH, "enroll_features": "none"}


def embeddings(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(3))


def hidden(model, batch, given: torch.Tensor | None, drop: bool = False, rows: slice = slice(None)) -> torch.Tensor:
    names = ("speech_mix", "speech_mix_lengths", "enroll_ref1", "enroll_ref1_lengths")
    mixture, lengths, enroll, enroll_lengths = (batch[name][rows] for name in names)
    conditions = model.conditions(model.encode(mixture, lengths), model.encode(enroll, enroll_lengths, given), drop)
    codes = torch.full((len(conditions.valid), 4, conditions.valid.shape[1]), 32)
    return model.extractor(codes, conditions) * conditions.valid[..., None]


@pytest.mark.parametrize("conf", [BESIDE, INSTEAD, {**INSTEAD, "speaker_vector": True}])
def test_the_embedding_tells_who_is_wanted(build, batch, conf):
    model, given = build(**conf), embeddings()
    with torch.no_grad():
        result = hidden(model, batch, given)
        # Row by row, of any length, and gone where the enrolment is hidden.
        torch.testing.assert_close(hidden(model, batch, 7 * given), result)
        changed = hidden(model, batch, torch.stack([given[0], given[2], given[2]]))
        assert torch.equal(changed[0], result[0]) and not torch.allclose(changed[1], result[1])
        torch.testing.assert_close(hidden(model, batch, given, True), hidden(model, batch, -given, True))
        single = hidden(model, {name: value[:1] for name, value in batch.items()}, given[:1])
        torch.testing.assert_close(single[0], result[0, : single.shape[1]], atol=1e-5, rtol=1e-4)


def test_in_the_place_of_features_the_enrolment_itself_does_not_matter(build, batch):
    model, given = build(**INSTEAD), embeddings()
    other = {**batch, "enroll_ref1": batch["enroll_ref1"].flip(0), "enroll_ref1_lengths": torch.full((3,), 9000)}
    with torch.no_grad():
        assert torch.equal(hidden(model, batch, given), hidden(model, other, given))
        beside = build(**BESIDE)
        assert not torch.allclose(hidden(beside, batch, given), hidden(beside, other, given))


@pytest.mark.parametrize("conf", [BESIDE, INSTEAD])
def test_a_step_trains_it_and_validation_exchanges_it(build, batch, conf):
    model = build({"masking": "joint", "drop_enroll": 0.0, "drop_both": 0.0}, **conf)
    model.train()
    loss, _, _ = model(**batch, embed_ref1=embeddings(), embed_ref1_lengths=torch.full((3,), WIDTH))
    loss.backward()
    assert model.extractor.embedding_map.weight.grad.abs().sum() > 0
    _, stats, _ = model.eval()(**batch, embed_ref1=embeddings())
    assert stats["enroll_gain"].item() != 0.0


def test_what_is_missing_is_named(build, batch):
    with pytest.raises(UserError, match="expected an embedding of 6 numbers for every enrolment, found none"):
        build(**BESIDE)(**batch)
    with pytest.raises(UserError, match="found 5 numbers"):
        build(**BESIDE)(**batch, embed_ref1=embeddings()[:, :5])
    with pytest.raises(UserError, match="leave nothing of the enrolment"):
        build(enroll_features="none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, the table of two of them and the pool of all."""
    root = tmp_path_factory.mktemp("embeddings")
    for number, pitch in enumerate((100.0, 160.0, 240.0)):
        soundfile.write(root / f"{number}.wav", voice(1.5, pitch, number), RATE)
    (root / "enroll.scp").write_text(f"a {root}/0.wav\nb {root}/1.wav\nc *u s\n")
    (root / "pool.json").write_text(f'{{"s": [["u", "{root}/2.wav"]], "t": [["v", "{root}/0.wav"]]}}')
    return root


def test_embeddings_are_computed_once_and_looked_up_by_path(folder: Path, capsys):
    output = folder / "e.npz"
    command, pool = ["--scp", str(folder / "enroll.scp"), "--output", str(output)], str(folder / "pool.json")
    embed_speakers.main(command)
    assert "2 recordings, 2 embedded now" in capsys.readouterr().out
    first = SpeakerEmbeddings(output)[f"{folder}/0.wav"]
    embed_speakers.main([*command, "--spk2enroll", pool])
    assert "3 recordings, 1 embedded now" in capsys.readouterr().out
    table = SpeakerEmbeddings(output)
    assert table.width == 256 and np.array_equal(table[f"{folder}/0.wav"], first)
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-5)
    # What decoding computes of the recording, whatever its level.
    samples = soundfile.read(folder / "0.wav", dtype="float32")[0]
    np.testing.assert_allclose(embed(0.1 * samples, RATE), first, atol=2e-3)
    # A training item has that of its enrolment.
    preprocess = TSEGenPreprocessor(
        True, RATE, 160, train_spk2enroll=pool, speaker_embeddings=table, ref_num=1, crop_seconds=0.5
    )
    data = {"speech_mix": samples, "speech_ref1": samples, "enroll_ref1": "*u s"}
    assert np.array_equal(preprocess("x", data)["embed_ref1"], table[f"{folder}/2.wav"])
    with pytest.raises(UserError, match=r"e.npz: has no embedding of /none.wav; run embed_speakers"):
        table["/none.wav"]


def test_a_changed_recording_is_embedded_anew(folder: Path, tmp_path: Path, capsys):
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", voice(1.5, 100.0, number), RATE)
    (tmp_path / "enroll.scp").write_text("".join(f"{number} {tmp_path}/{number}.wav\n" for number in range(2)))
    command = ["--scp", str(tmp_path / "enroll.scp"), "--output", str(tmp_path / "e.npz")]
    embed_speakers.main(command)
    before = SpeakerEmbeddings(tmp_path / "e.npz")
    soundfile.write(tmp_path / "1.wav", voice(1.6, 240.0, 5), RATE)
    embed_speakers.main(command)
    assert "2 recordings, 1 embedded now" in capsys.readouterr().out
    after = SpeakerEmbeddings(tmp_path / "e.npz")
    same = [np.array_equal(before[f"{tmp_path}/{number}.wav"], after[f"{tmp_path}/{number}.wav"]) for number in (0, 1)]
    assert same == [True, False]


def test_files_that_are_no_embeddings(folder: Path):
    with pytest.raises(UserError, match="none.npz: no such file; embed_speakers makes it"):
        SpeakerEmbeddings(folder / "none.npz")
    (folder / "bad.npz").write_text("no")
    np.savez(folder / "other.npz", paths=np.array(["a"]), embeddings=np.zeros(3))
    for name in ("bad", "other"):
        with pytest.raises(UserError, match=f"{name}.npz: is not a file of speaker embeddings"):
            SpeakerEmbeddings(folder / f"{name}.npz")
    with pytest.raises(UserError, match="is not a file of speaker embeddings"):
        embed_speakers.main(["--scp", str(folder / "enroll.scp"), "--output", str(folder / "bad.npz")])
    with pytest.raises(UserError, match="none given"):
        embed_speakers.main(["--output", str(folder / "x.npz")])


def test_decoding_embeds_the_enrolment_itself():
    conf = {**CONFIG["extractor_conf"], "speaker_embedding": 256, "enroll_features": "none"}
    model = build_model(fitted_codec(), {**CONFIG, "extractor_conf": conf}).eval()
    torch.nn.init.normal_(model.extractor.heads, std=0.5)
    options = {"steps": 1, "guidance": 1.5, "chunk_seconds": 1.0, "chunk_overlap_seconds": 0.2}
    extractor = MaskedInference(model, options)
    short, long = mixture(0.8), mixture(1.7)
    voices = [voice(1.0, 110.0, 1), voice(1.0, 197.0, 2)]
    together = extractor.extract_batch([short, short, long], [*voices, voices[0]])
    assert not np.allclose(together[0], together[1])
    np.testing.assert_allclose(extractor(short, voices[1]), together[1], atol=1e-5)
    np.testing.assert_allclose(extractor(long, voices[0]), together[2], atol=1e-5)
