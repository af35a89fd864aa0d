"""Recordings as users have them, at every door that a recording enters by."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from broken_audio import DAMAGES, OF_FLAC, OF_WAV, encoded, with_data_size, with_long_data, with_total
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import ROOT, start
from refused import refused_command
from tiny_model import RATE, fitted_codec, mixture, tiny_exp_dir, voice

from espnet_tse_gen.bin import check_data, codec_resynth, codec_tokenize, format_wav, prepare_sources, score
from espnet_tse_gen.bin import tse_gen_inference as inference
from espnet_tse_gen.cli import main
from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.utils.errors import run_main
from espnet_tse_gen.utils.files import read_scp, write_scp

SECONDS = 0.8


@pytest.fixture
def enroll(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "e.wav", voice(1.0, 110.0, seed=5), RATE, subtype="FLOAT")
    return tmp_path / "e.wav"


def mixed(rate: int = 16000) -> np.ndarray:
    return mixture(SECONDS, rate=rate)


def extract(given: Path | str, enroll: Path | str, output: Path, *more: str) -> soundfile._SoundFileInfo:
    words = ["extract", "--mixture", given, "--enroll", enroll, "-o", output, "--model", tiny_exp_dir(), *more]
    main([str(word) for word in words])
    return soundfile.info(str(output))


def refuse(message: str, given: Path | str, enroll: Path | str, *more: str) -> str:
    """Require one line, and no output."""
    output = Path(enroll).with_name("refused.wav")
    line = refused_command(
        message, main, "extract", "--mixture", given, "--enroll", enroll, "-o", output, "--model", tiny_exp_dir(), *more
    )
    assert not output.exists()
    return line


@pytest.mark.parametrize(
    ("container", "subtype", "output", "wanted"),
    [
        ("MP3", "MPEG_LAYER_III", "o.wav", "PCM_16"),
        ("WAV", "GSM610", "o.WAV", "PCM_16"),
        ("WAV", "PCM_U8", "o.FLAC", "PCM_16"),
        ("OGG", "OPUS", "o.Flac", "PCM_16"),
        ("AIFF", "PCM_S8", "o.flac", "PCM_16"),
        ("CAF", "ALAC_16", "o.wav", "PCM_16"),
        ("WAVEX", "PCM_24", "o.wav", "PCM_24"),
        ("FLAC", "PCM_24", "o.wav", "PCM_24"),
        ("WAV", "PCM_32", "o.wav", "PCM_32"),
        ("WAV", "PCM_32", "o.flac", "PCM_16"),
        ("WAV", "PCM_24", "o.flac", "PCM_24"),
        ("AIFF", "FLOAT", "o.wav", "FLOAT"),
        ("WAV", "DOUBLE", "o.wav", "DOUBLE"),
    ],
)
def test_an_output_is_not_lossy(
    tmp_path: Path, enroll: Path, container: str, subtype: str, output: str, wanted: str
) -> None:
    (tmp_path / "m").write_bytes(encoded(mixed(), 16000, container, subtype))
    made = extract(tmp_path / "m", enroll, tmp_path / output)
    assert (made.subtype, made.samplerate, made.format) == (wanted, 16000, Path(output).suffix[1:].upper())
    assert made.frames == soundfile.info(str(tmp_path / "m")).frames


@pytest.mark.parametrize("total", [0, 2**36 - 1])
def test_a_flac_without_a_number_of_samples_is_read_to_its_end(tmp_path: Path, enroll: Path, total: int) -> None:
    (tmp_path / "m.flac").write_bytes(with_total(encoded(mixed(), 16000, "FLAC"), total))
    (tmp_path / "e.flac").write_bytes(with_total(encoded(voice(1.0, 110.0), RATE, "FLAC"), total))
    assert extract(tmp_path / "m.flac", tmp_path / "e.flac", tmp_path / "o.wav").frames == len(mixed())


@pytest.mark.parametrize(
    ("content", "part", "says"),
    [
        (with_data_size(encoded(mixed(), 16000), 0), 1.0, "its header says that it is empty"),
        (with_data_size(encoded(mixed(), 16000, "WAVEX", "PCM_24"), 0), 1.0, "its header says that it is empty"),
        (with_data_size(encoded(mixed(), 16000), 1000), 500 / 12800, "more follows behind"),
        (DAMAGES["half"](encoded(mixed(), 16000)), 0.5, "is cut short"),
        (DAMAGES["half"](encoded(mixed(), 16000, "AIFF")), 0.5, "is cut short"),
        (DAMAGES["half"](encoded(mixed(), 16000, "AU")), 0.5, "is cut short"),
        (DAMAGES["half"](encoded(mixed(), 16000, "W64")), 0.5, "is cut short"),
        (DAMAGES["half"](encoded(np.tile(mixed(), 4), 16000, "MP3", "MPEG_LAYER_III")), 2.0, "is cut short"),
        (DAMAGES["half"](encoded(np.tile(mixed(), 9), 16000, "OGG", "VORBIS")), 4.5, "is cut short"),
        (with_total(encoded(mixed(), 16000, "FLAC"), 99999), 1.0, "is cut short"),
        (with_data_size(encoded(mixed(), 16000), 0xFFFFFFFF), 1.0, ""),
        (with_data_size(encoded(mixed(), 16000), 0x7FFFFFDB), 1.0, ""),
        (with_long_data(encoded(mixed(), 16000, "RF64"), 99999), 1.0, "is cut short"),
        (with_long_data(encoded(mixed(), 16000, "RF64"), 2**63 - 200), 1.0, ""),
        (with_long_data(encoded(mixed(), 16000, "RF64"), 2**64 - 200), 1.0, ""),
        (DAMAGES["more behind"](encoded(mixed(), 16000)), 1.0, ""),
        (encoded(mixed(), 16000, "OGG", "OPUS"), 1.0, ""),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_what_is_there_is_used_and_what_is_not_is_said(
    tmp_path: Path, enroll: Path, capfd: pytest.CaptureFixture[str], content: bytes, part: float, says: str
) -> None:
    (tmp_path / "m.wav").write_bytes(content)
    made = extract(tmp_path / "m.wav", enroll, tmp_path / "o.wav")
    assert made.frames == pytest.approx(part * len(mixed()), rel=0.25 if part in (0.5, 2.0, 4.5) else 0)
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith(str(tmp_path))]
    assert len(told) == bool(says)
    if says:
        assert told[0].startswith(f"{tmp_path / 'm.wav'}: warning: ") and says in told[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DAMAGES["M4A"](bytes(99)), "of the formats WAV, FLAC, .* it is none; .* 'ffmpeg -i 'my m.m4a' -ac 1 'my m.wav''"),
        (DAMAGES["text"](b""), "of the formats WAV"),
        (DAMAGES["nothing"](b""), "it is empty"),
        (DAMAGES["Git LFS"](b""), "run 'git lfs pull'"),
        (encoded(mixed()[:0], 16000), "has no samples"),
        (DAMAGES["half"](encoded(mixed(), 16000, "FLAC")), "flac decoder lost sync"),
        (OF_WAV["says no channel"](encoded(mixed(), 16000)), "Channel count is zero"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value[:20],
)  # fmt: skip
def test_what_is_no_recording_is_said(tmp_path: Path, enroll: Path, content: bytes, says: str) -> None:
    (tmp_path / "my m.m4a").write_bytes(content)
    refuse(f"my m.m4a: .*{says}", tmp_path / "my m.m4a", enroll)


HUGE = {
    "RF64": with_long_data(encoded(mixed(), 16000, "RF64"), 10 * 2**30),
    "W64": with_long_data(encoded(mixed(), 16000, "W64"), 10 * 2**30),
    # The most that a header of 32 bits says who means it.
    "WAV": with_data_size(encoded(mixed(), 16000), 0x7FFE0000),
    "FLAC": with_total(encoded(mixed(), 16000, "FLAC"), 5 * 2**30),
}
"""Less than a second, which says that it has gigabytes."""


@pytest.mark.parametrize("container", HUGE)
def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path, enroll: Path, container: str) -> None:
    (huge := tmp_path / "huge.wav").write_bytes(HUGE[container])
    (tmp_path / "m.wav").write_bytes(encoded(mixed(), 16000))
    message = r"huge.wav: is damaged: it has \d+ of the \d+ (bytes|samples) that its header names; copy it again"
    tracemalloc.start()
    refuse(message, huge, enroll)
    refuse(message, tmp_path / "m.wav", huge)
    # A FLAC may be far smaller than its samples; memory that is asked for and never written to is not taken.
    assert tracemalloc.get_traced_memory()[1] < (1.5e9 if container == "FLAC" else 50e6)
    tracemalloc.stop()


@pytest.mark.parametrize("table", ["wav.scp", "spk1.scp", "out"])
def test_scoring_refuses_a_header_that_claims_gigabytes(world: Path, table: str) -> None:
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    scp = outputs / "spk1.scp" if table == "out" else data / table
    path = Path(next(iter(read_scp(scp).values())))
    path.write_bytes(with_long_data(encoded(soundfile.read(path)[0], RATE, "RF64"), 10 * 2**30))
    tables = [word for n in (1, 2) for word in ("--inf_scp", outputs / f"spk{n}.scp")]
    given = ["--data_dir", data, *tables, "--system", "m", "--output_dir", world / "scoring"]
    refused_command("is damaged: it has .* that its header names", score.main, *given)
    assert not (world / "scoring/scores.csv").exists()


def test_names_that_are_no_file(tmp_path: Path, enroll: Path) -> None:
    refuse("is a folder", tmp_path, enroll)
    refuse("no such file", tmp_path / ("a" * 300), enroll)
    mixed_file, output = tmp_path / "m.wav", tmp_path / "o.wav"
    output.mkdir()
    mixed_file.write_bytes(encoded(mixed(), 16000))
    refused_command("--output .*o.wav: is a folder", main, "extract", mixed_file, "--enroll", enroll, "-o", output)


def test_more_threads_than_cores_are_not_used(tmp_path: Path, enroll: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").write_bytes(encoded(mixed(), 16000))
    extract(tmp_path / "m", enroll, tmp_path / "o.wav", "--num_threads", "5000")
    assert torch.get_num_threads() <= (os.cpu_count() or 1)
    assert capsys.readouterr().err.startswith("--num_threads: 5000 are more than this machine has cores; ")
    refuse("--num_threads: -1 is not in the range x>=0", tmp_path / "m", enroll, "--num_threads", "-1")


def shell(tmp_path: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in ``tmp_path``, with this tree's command as EXTRACT."""
    command = f"{sys.executable} -m espnet_tse_gen.cli extract --model {tiny_exp_dir()}"
    line = line.replace("EXTRACT", command)
    return start("timeout", "60", "bash", "-c", line, folder=tmp_path, PYTHONPATH=str(ROOT))


@pytest.mark.parametrize("piped", ["mixture", "enrolment"])
def test_a_pipe_is_read_once(tmp_path: Path, enroll: Path, piped: str) -> None:
    (tmp_path / "m.flac").write_bytes(content := with_total(encoded(mixed(), 16000, "FLAC", "PCM_24"), 0))
    reader, writer = os.pipe()
    os.write(writer, content if piped == "mixture" else enroll.read_bytes())
    os.close(writer)
    pipe = f"/dev/fd/{reader}"  # as the shell's <(...) names it
    given = (pipe, enroll) if piped == "mixture" else (tmp_path / "m.flac", pipe)
    made = extract(*given, tmp_path / "o.wav")
    os.close(reader)
    assert (made.frames, made.subtype) == (len(mixed()), "PCM_24")


@pytest.mark.slow
def test_standard_input_is_a_mixture_or_it_is_said_why_not(tmp_path: Path, enroll: Path) -> None:
    (tmp_path / "m.flac").write_bytes(encoded(mixed(), 16000, "FLAC", "PCM_24"))
    done = shell(tmp_path, "cat m.flac | EXTRACT --mixture - --enroll e.wav -o o.wav")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    made = soundfile.info(str(tmp_path / "o.wav"))
    assert (made.frames, made.subtype) == (len(mixed()), "PCM_24")
    (tmp_path / "o.wav").unlink()
    for line in (
        "cat m.flac | EXTRACT --mixture - --enroll - -o o.wav",
        "EXTRACT --mixture - --enroll e.wav -o o.wav < /dev/null",
        "EXTRACT --mixture - --enroll e.wav -o o.wav <&-",
    ):
        done = shell(tmp_path, line)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert "standard input: " in done.stderr and not (tmp_path / "o.wav").exists()


Form = Callable[[np.ndarray, int], bytes]
FORMS: dict[str, Form] = {
    "a FLAC without its number of samples": lambda samples, rate: with_total(encoded(samples, rate, "FLAC"), 0),
    "a WAV that says it is empty": lambda samples, rate: with_data_size(encoded(samples, rate), 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_doors_read_alike(world: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every door makes of such files what it makes of sound ones, which have the same samples."""
    save_codec(fitted_codec(), world / "codec")
    data = world / "data/test"
    write_scp(data / "utt2spk", {key: key for key in read_scp(data / "wav.scp")})
    for number in (1, 2):  # names that tell no speaker
        named = {key: Path(path) for key, path in read_scp(data / f"enroll_spk{number}.scp").items()}
        moved = {key: path.rename(path.with_name(f"e{number}{n}.wav")) for n, (key, path) in enumerate(named.items())}
        write_scp(data / f"enroll_spk{number}.scp", {key: str(path) for key, path in moved.items()})
    made = {}
    for kind in ("sound", "odd"):
        for path in (world / "wavs").iterdir():
            samples, rate = soundfile.read(path)
            if kind == "odd":
                path.write_bytes(FORMS[form](samples, rate))
        made[kind] = doors(world, world / kind)
    assert made["odd"].keys() == made["sound"].keys()
    for name, samples in made["sound"].items():
        np.testing.assert_array_equal(made["odd"][name], samples, err_msg=name)
    assert ("warning" in capsys.readouterr().err) == ("says" in form)


def doors(world: Path, output: Path) -> dict[str, np.ndarray]:
    """Send the world through all doors, and return what each made of it."""
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    made: dict[str, np.ndarray] = {}
    check_data.main(["--fs", str(RATE), str(data)])
    format_wav.main(["--fs", str(RATE), str(data), str(output / "data")])
    for name in ("wav.scp", "spk1.scp", "enroll_spk1.scp"):
        for key, path in read_scp(output / "data" / name).items():
            made[f"format {name} {key}"] = soundfile.read(path)[0]
    for folder in (output / "speech", output / "listed"):
        folder.mkdir()
    write_scp(output / "speech/wav.scp", read_scp(data / "spk1.scp"))
    write_scp(output / "speech/utt2spk", read_scp(data / "target_spk1"))
    prepare_sources.main(["--speech_dir", str(output / "speech"), "--output_dir", str(output / "listed")])
    for key, seconds in read_scp(output / "listed/utt2dur").items():
        made[f"sources {key}"] = np.array(float(seconds))
    table = ["--codec_dir", str(world / "codec"), "--wav_scp", str(data / "spk1.scp"), "--name", "s"]
    codec_tokenize.main([*table, "--output_dir", str(output / "codes")])
    import kaldiio

    for key, codes in kaldiio.load_scp(str(output / "codes/s.scp")).items():
        made[f"codes {key}"] = codes
    codec_resynth.main([*table, "--output_dir", str(output / "ceiling")])
    for key, path in read_scp(output / "ceiling/s.scp").items():
        made[f"resynth {key}"] = soundfile.read(path)[0]
    enrolled = ["--mixture_scp", str(data / "wav.scp"), "--enroll_scp", str(data / "enroll_spk1.scp")]
    enrolled += ["--target_scp", str(data / "spk1.scp"), "--output_dir", str(output / "decoded")]
    inference.main(["--model_dir", str(tiny_exp_dir()), *enrolled])
    for key, path in read_scp(output / "decoded/spk1.scp").items():
        made[f"batch {key}"] = soundfile.read(path)[0]
    tables = [word for n in (1, 2) for word in ("--inf_scp", str(outputs / f"spk{n}.scp"))]
    score.main(["--data_dir", str(data), *tables, "--system", "m", "--output_dir", str(output / "scoring")])
    rows = (output / "scoring/scores.csv").read_text().splitlines()
    made["score"] = np.array(rows[1:])
    return made


def test_floats_beyond_full_scale_are_not_clipped_in_a_set(world: Path) -> None:
    for path in (world / "wavs").glob("*_wav.scp.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples * 32768, rate, subtype="FLOAT")
    data, made = world / "data/test", {}
    tables = ["--mixture_scp", str(data / "wav.scp"), "--enroll_scp", str(data / "enroll_spk1.scp")]
    inference.main(["--model_dir", str(tiny_exp_dir()), *tables, "--output_dir", str(world / "decoded")])
    for key, path in read_scp(world / "decoded/spk1.scp").items():
        made[key] = soundfile.read(path)[0]
        given = soundfile.read(read_scp(data / "wav.scp")[key])[0]
        assert soundfile.info(path).subtype == "FLOAT"
        assert 0.01 < np.std(made[key]) / np.std(given) < 3


def test_what_16_bits_cannot_hold_is_said(world: Path) -> None:
    path = next((world / "wavs").glob("*_wav.scp.wav"))
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples * 1e-6, rate, subtype="FLOAT")
    write_scp(world / "data/test/utt2spk", {key: key for key in read_scp(world / "data/test/wav.scp")})
    refused_command(f"{path.name} .*16 bits hold nothing of it", format_wav.main, world / "data/test", world / "out")
    assert not (world / "out/wav.scp").exists()


# Another number of examples by hand: TSE_GEN_EXAMPLES=500
EXAMPLES = int(os.environ.get("TSE_GEN_EXAMPLES", "30"))
CONTAINERS = [
    (container, subtype)
    for container in ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64")
    for subtype in sorted(soundfile.available_subtypes(container))
    if not subtype.startswith(("DWVW", "NMS", "G72"))  # these soundfile cannot write into memory
    and (container != "MP3" or subtype == "MPEG_LAYER_III")
]
RATES = (8000, 11025, 16000, 24000, 44100, 48000)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[bytes, int, int, str]:
    """The bytes of a file, its rate, its number of samples, its sample format; 0 samples where it is damaged."""
    container, subtype = draw(st.sampled_from(CONTAINERS))
    rate = draw(st.sampled_from([16000, 48000] if subtype == "OPUS" else RATES))
    channels = draw(st.sampled_from([1] * 9 + [2]))
    length = draw(st.sampled_from([0, 1, 100, 3000, 16000, 20011]))
    level, offset = draw(st.sampled_from([0.0, 1e-7, 0.01, 0.3, 1.0, 50.0])), draw(st.sampled_from([0.0, 0.2]))
    samples = level * mixture(length / rate + 0.01, rate=rate)[:length] + offset
    broken = draw(st.sampled_from([False] * 9 + [True]))
    if subtype not in ("FLOAT", "DOUBLE"):
        samples = samples.clip(-1, 1)  # encoders end the whole process over other numbers
    elif broken and length:
        samples[length // 2] = np.nan
    damages = {**DAMAGES, **(OF_WAV if container == "WAV" else OF_FLAC if container == "FLAC" else {})}
    damage = draw(st.sampled_from(["none"] * 9 + sorted(damages)))
    try:
        content = encoded(np.stack([samples] * channels, axis=1) if channels > 1 else samples, rate, container, subtype)
    except (soundfile.SoundFileError, AssertionError):  # what soundfile cannot write, nobody has
        return b"", rate, 0, subtype
    return damages[damage](content), rate, length if damage == "none" and channels == 1 else 0, subtype


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(recording=recordings(), enrolled=st.booleans(), name=st.sampled_from(["o.wav", "o.flac"]))
def test_extraction_gives_a_whole_output_or_one_line(
    tmp_path: Path, enroll: Path, capfd: pytest.CaptureFixture[str], recording: Any, enrolled: bool, name: str
) -> None:
    content, rate, length, subtype = recording
    given, output, other = tmp_path / "given.wav", tmp_path / name, tmp_path / "other.wav"
    given.write_bytes(content)
    output.unlink(missing_ok=True)
    soundfile.write(other, mixed(), 16000, subtype="FLOAT")
    mixture_file, enroll_file = (other, given) if enrolled else (given, enroll)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: extract(mixture_file, enroll_file, output) and None)
    # mpg123 has its own.
    told = [line for line in capfd.readouterr().err.splitlines() if not line.startswith(("Warning: ", "Note: "))]
    errors = [line for line in told if ": error: " in line]
    if ended.value.code == 2:
        assert len(errors) == 1 and not output.exists(), told
        assert "given.wav" in errors[0] or "enrolment" in errors[0], errors
        return
    assert ended.value.code == 0 and not errors, told
    assert all(str(tmp_path) in line for line in told), told
    made, made_rate = soundfile.read(output)
    assert np.isfinite(made).all()
    if enrolled:
        assert (len(made), made_rate) == (len(mixed()), 16000)
        return
    assert made_rate == rate
    there = soundfile.info(str(given)).frames
    if length:
        # Codecs of blocks fill the last one.
        assert length <= len(made) <= length + 4100
        heard = soundfile.read(given)[0]
        assert len(made) == len(heard) == there
        assert soundfile.info(str(output)).subtype in ("PCM_16", subtype)
        # No extraction is much louder than what it is taken from.
        assert np.abs(made).max() <= 4 * np.abs(heard).max() + 1e-4
