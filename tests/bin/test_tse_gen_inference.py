import csv
import json
import re
import shutil
import sys

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from programs import output_of, start
from refused import refused
from tiny_discriminative import discriminative_exp_dir
from tiny_model import RATE, mixture, tiny_exp_dir, voice

from espnet_tse_gen import load_extractor
from espnet_tse_gen.bin.tse_gen_inference import main
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.inference.masked import MaskedInference
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.scoring.decode_facts import read_rtf
from espnet_tse_gen.utils.files import read_scp, write_scp

SECONDS = {"utt_a": 0.6, "utt_b": 1.1, "utt_c": 0.35, "utt_d": 0.9}


@pytest.fixture
def data(tmp_path):
    """A data directory with mixtures at 16 kHz, enrolments at 8 kHz, and targets."""
    directory = tmp_path / "data"
    directory.mkdir()
    tables = {"wav": {}, "enroll_spk1": {}, "spk1": {}}
    for number, (key, seconds) in enumerate(SECONDS.items()):
        signals = {
            "wav": (mixture(seconds, seed=number, rate=16000), 16000),
            "enroll_spk1": (voice(1.0, 110.0, seed=number + 50), RATE),
            "spk1": (voice(seconds, 110.0, seed=number, rate=16000), 16000),
        }
        for name, (samples, rate) in signals.items():
            path = directory / f"{name}_{key}.wav"
            soundfile.write(path, samples, rate, subtype="FLOAT")
            tables[name][key] = str(path)
    for name, table in tables.items():
        write_scp(directory / f"{name}.scp", table)
    return directory


def command(data, *more, model=None):
    return [
        "--model_dir", str(model or tiny_exp_dir()), "--mixture_scp", str(data / "wav.scp"),
        "--enroll_scp", str(data / "enroll_spk1.scp"), "--output_dir", str(data / "out"), "--name", "spk1", *more,
    ]  # fmt: skip


def recordings(data, key):
    """Mixture and enrolment of a key, as arrays."""
    return [soundfile.read(data / f"{name}_{key}.wav", dtype="float32")[0] for name in ("wav", "enroll_spk1")]


def written(data):
    """All files of the output with content and time of writing."""
    files = [path for path in (data / "out").rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def refuse(message, cmd, data):
    """Run a command that must fail in one line and change nothing."""
    before = written(data)
    refused(message, main, cmd)
    assert written(data) == before


def test_help_names_every_option_and_imports_nothing_heavy():
    done = start(sys.executable, "-X", "importtime", "-m", "espnet_tse_gen.bin.tse_gen_inference", "--help")
    assert "--codes_scp" in output_of(done) and "| torch" not in done.stderr
    for name in (*DecodingOptions.names(), *SegmentOptions.names()):
        assert f"--{name} " in done.stdout


def test_outputs_have_the_inputs_rate_and_length(data, capsys):
    main(command(data, "--batch_size", "3", "--num_threads", "1"))
    table = read_scp(data / "out" / "spk1.scp")
    assert list(table) == sorted(SECONDS)
    for key, path in table.items():
        given, made = soundfile.info(str(data / f"wav_{key}.wav")), soundfile.info(path)
        assert (made.frames, made.samplerate, made.channels) == (given.frames, given.samplerate, 1)
        assert made.subtype == given.subtype == "FLOAT" and path == str(data / "out" / "wavs" / "spk1" / f"{key}.wav")
    timing = json.loads((data / "out" / "spk1.1.rtf.json").read_text())
    assert timing["recordings"] == 4 and timing["audio_seconds"] == pytest.approx(sum(SECONDS.values()), abs=1e-3)
    assert timing["wall_seconds"] > 0 and timing["batch_size"] == 3 and timing["device"] == "cpu"
    assert timing["passes"] == 8 + 2 + 1 + 1
    assert "4 recordings extracted" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["masked", "td_speakerbeam", "mc_spex"])
def test_the_recipe_and_python_give_the_same(data, model):
    exp_dir = tiny_exp_dir() if model == "masked" else discriminative_exp_dir(model)
    options = {"segment_seconds": 0.4, "overlap_seconds": 0.1}
    if model == "masked":
        options = {"seed": 3, "reconstruction": "mixture", "temperature": 1.0, "choice_temperature": 1.0, "top_k": 0.1}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    main(command(data, "--batch_size", "2", *words, model=exp_dir))
    extractor = load_extractor(exp_dir, decode=options)
    assert list(read_scp(data / "out" / "spk1.scp")) == sorted(SECONDS)
    for key, path in read_scp(data / "out" / "spk1.scp").items():
        request = extractor.request(*recordings(data, key), 16000, enroll_sample_rate=RATE, row_id=f"spk1/{key}")
        made = soundfile.read(path, dtype="float32")[0]
        np.testing.assert_allclose(extractor.extract([request])[0].samples, made, atol=1.01 / 32768)


def test_an_option_is_taken_by_its_former_name(data):
    with pytest.warns(FutureWarning, match="'carry_seconds' is called 'chunk_overlap_seconds' now"):
        main(command(data, "--chunk_seconds", "0.5", "--carry_seconds", "0.2"))
    first = written(data)
    main(command(data, "--chunk_seconds", "0.5", "--chunk_overlap_seconds", "0.2"))
    assert not changed_wavs(first, written(data))


def changed_wavs(before, after):
    return {path.stem for path in before if path.suffix == ".wav" and before[path][0] != after[path][0]}


def test_what_changed_is_made_again_and_nothing_else(data, tmp_path, capsys):
    main(command(data))
    first = written(data)
    main(command(data, "--batch_size", "2"))
    # The joined table is written again by every job that finds all parts complete.
    table = data / "out/spk1.scp"
    assert written(data) | {table: None} == first | {table: None}
    assert "0 recordings extracted, 4 were there already" in capsys.readouterr().out
    soundfile.write(data / "enroll_spk1_utt_c.wav", voice(0.9, 140.0), RATE)
    main(command(data))
    second = written(data)
    assert changed_wavs(first, second) == {"utt_c"}
    main(command(data, "--steps", "1"))
    third = written(data)
    assert changed_wavs(second, third) == set(SECONDS)
    other = shutil.copytree(tiny_exp_dir(), tmp_path / "other")
    weights = other / "valid.loss.ave.pth"
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "extractor.heads": 1.01 * state["extractor.heads"]}, weights)
    main(command(data, "--steps", "1", model=other))
    fourth = written(data)
    assert changed_wavs(third, fourth) == set(SECONDS)
    (data / "out/wavs/spk1/utt_a.wav").write_bytes(b"damaged")
    main(command(data, "--steps", "1", model=other))
    assert changed_wavs(fourth, written(data)) == {"utt_a"}
    assert soundfile.info(str(data / "out/wavs/spk1/utt_a.wav")).frames == 9600
    main(command(data, "--steps", "1", "--overwrite", "true", model=other))
    assert changed_wavs(fourth, written(data)) == set(SECONDS)


def test_jobs_split_the_set_and_the_last_one_joins_it(data):
    refused(r"--job: expected 1\.\.2", main, command(data, "--job", "3", "--num_jobs", "2"))
    main(command(data, "--job", "2", "--num_jobs", "2"))
    assert not (data / "out" / "spk1.scp").exists()
    assert list(read_scp(data / "out" / "spk1.2.scp")) == ["utt_b", "utt_d"]
    main(command(data, "--job", "1", "--num_jobs", "2"))
    assert list(read_scp(data / "out" / "spk1.scp")) == sorted(SECONDS)
    before = written(data)
    # Another number of jobs takes over what there is, and leaves no surplus tables.
    main(command(data))
    assert not changed_wavs(before, written(data)) and not (data / "out" / "spk1.2.scp").exists()
    assert list(read_scp(data / "out" / "spk1.scp")) == sorted(SECONDS)


def test_an_interrupted_job_goes_on(data, monkeypatch):
    extract, calls = MaskedInference.extract, []

    def interrupted(self, requests, **more):
        calls.append(len(requests))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return extract(self, requests, **more)

    monkeypatch.setattr(MaskedInference, "extract", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(command(data, "--batch_size", "1"))
    assert not (data / "out" / "spk1.scp").exists()
    before = written(data)
    monkeypatch.setattr(MaskedInference, "extract", extract)
    main(command(data))
    made = {path.stem for path in written(data) if path.suffix == ".wav"}
    assert made == set(SECONDS) and not changed_wavs(before, written(data))


def test_scoring_reads_the_timing_of_all_jobs(data):
    for job in range(1, 6):  # one more than there are recordings
        main(command(data, "--job", str(job), "--num_jobs", "5"))
    assert list(read_scp(data / "out" / "spk1.scp")) == sorted(SECONDS)
    parts = [json.loads((data / "out" / f"spk1.{n}.rtf.json").read_text()) for n in range(1, 5)]
    rtf, conditions = read_rtf([data / "out" / "spk1.scp"])
    assert rtf == pytest.approx(sum(part["wall_seconds"] for part in parts) / sum(SECONDS.values()), rel=1e-3)
    assert "passes 12" in conditions and "device cpu" in conditions


def test_key_file_chooses(data):
    (data / "keys").write_text("utt_c anything\nutt_a\n")
    main(command(data, "--key_file", str(data / "keys")))
    assert list(read_scp(data / "out" / "spk1.scp")) == ["utt_a", "utt_c"]
    (data / "keys").write_text("utt_x\n")
    refuse("utt_x", command(data, "--key_file", str(data / "keys")), data)


def write_codes(data, change=lambda key, codes: codes):
    """Write the tokens that the model itself predicts, changed."""
    extractor = load_extractor(tiny_exp_dir())
    with kaldiio.WriteHelper(f"ark,scp:{data}/codes.ark,{data}/codes.scp", write_function="numpy") as writer:
        for key in SECONDS:
            request = extractor.request(*recordings(data, key), 16000, enroll_sample_rate=RATE, row_id=f"spk1/{key}")
            codes = change(key, extractor.extract([request])[0].codes)
            writer(key, np.ascontiguousarray(codes.T).astype(np.int16))


def test_token_accuracy(data):
    def spoil(key, codes):
        codes = codes.copy()
        codes[2, : codes.shape[1] // 2] = (codes[2, : codes.shape[1] // 2] + 1) % 16
        return codes

    write_codes(data, spoil)
    main(command(data, "--codes_scp", str(data / "codes.scp")))
    path = data / "out" / "spk1.1.token_accuracy.csv"
    head, *rows = csv.reader(path.open())
    assert head == ["key", *(f"codebook{n}" for n in (1, 2, 3, 4))] and [row[0] for row in rows] == sorted(SECONDS)
    for row in rows:
        shares = [float(value) for value in row[1:]]
        assert shares[0] == shares[1] == shares[3] == 1.0 and shares[2] == pytest.approx(0.5, abs=0.05)
    before = path.read_bytes()
    main(command(data, "--codes_scp", str(data / "codes.scp")))
    assert path.read_bytes() == before
    write_codes(data)
    main(command(data, "--codes_scp", str(data / "codes.scp")))
    assert all(float(value) == 1.0 for row in [*csv.reader(path.open())][1:] for value in row[1:])


def test_tokens_of_another_length_are_refused(data):
    write_codes(data, lambda key, codes: codes[:, :-1] if key == "utt_b" else codes)
    refuse(r"\(key 'utt_b'\): holds \(4, 54\) tokens", command(data, "--codes_scp", str(data / "codes.scp")), data)


def replace_line(path, key, value):
    table = {**read_scp(path), key: value}
    write_scp(path, {name: entry for name, entry in table.items() if entry is not None})


def break_wav(data, name, key, kind):
    path = data / f"{name}_{key}.wav"
    good = soundfile.read(path, dtype="float32")[0]
    soundfile.write(path, {"short": good[:100], "silent": np.zeros_like(good)}[kind], RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("wav", "short", "is 12.5 ms long, expected at least one frame"), ("enroll_spk1", "silent", "is silent")],
)
def test_bad_recording_ends_in_one_line_and_changes_nothing(data, name, kind, message):
    main(command(data))
    path = break_wav(data, name, "utt_c", kind)
    # Other options would make everything again, if the recordings could be used.
    refuse("^" + re.escape(f"{path} (key 'utt_c'): {message}"), command(data, "--steps", "1"), data)


def test_silent_mixture_gives_silence(data):
    break_wav(data, "wav", "utt_c", "silent")
    main(command(data))
    assert not soundfile.read(data / "out/wavs/spk1/utt_c.wav")[0].any()


def test_missing_and_extra_keys(data):
    replace_line(data / "enroll_spk1.scp", "utt_b", None)
    refuse(r"enroll_spk1.scp: 1 key\(s\) .* missing, first 'utt_b'", command(data), data)
    replace_line(data / "enroll_spk1.scp", "utt_b", "x.wav")
    replace_line(data / "wav.scp", "utt_a", None)
    refuse(r"enroll_spk1.scp: 1 key\(s\) are not in .*first 'utt_a'", command(data), data)
    assert not (data / "out").exists()


@pytest.mark.parametrize("copy", [False, True])
def test_enrolment_that_is_the_target_is_refused(data, copy):
    main(command(data, "--target_scp", str(data / "spk1.scp")))
    path = data / "spk1_utt_b.wav"
    if copy:
        path = shutil.copy(path, data / "copy.wav")
    replace_line(data / "enroll_spk1.scp", "utt_b", str(path))
    message = "^" + re.escape(f"{path} (key 'utt_b'): the enrolment is the target utterance itself")
    refuse(message, command(data, "--target_scp", str(data / "spk1.scp")), data)


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("spex_plus", ["--steps", "3"], "option 'steps' is for masked generative models"),
        ("spex_plus", ["--codes_scp", "{data}/wav.scp"], "--codes_scp: token accuracy is that of a codec"),
        ("", ["--decode_config", "gredy_16"], "models 'gredy_16': did you mean 'greedy_16'"),
        ("", ["--gidance", "2"], "unknown option '--gidance': did you mean '--guidance'"),
        ("", ["--guidance", "much"], "decoding option 'guidance': expected a number"),
        ("", ["--steps", "[8, 2"], "--steps: cannot read the value"),
        ("", ["--target_scp", "nowhere.scp"], "nowhere.scp: no such file"),
    ],
)
def test_bad_option_ends_in_one_line_and_changes_nothing(data, kind, more, message):
    model = discriminative_exp_dir(kind) if kind else None
    more = [word.format(data=data) for word in more]
    refuse(re.escape(message), command(data, *more, model=model), data)


def test_required_options_are_named():
    refused("--model_dir, --mixture_scp", main, [])
