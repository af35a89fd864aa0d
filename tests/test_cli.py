import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import ROOT, output_of, refused_in, start
from refused import refused, refused_command
from tiny_discriminative import discriminative_exp_dir
from tiny_model import RATE, mixture, tiny_exp_dir, voice

from espnet_tse_gen import TargetSpeakerExtractor, __version__
from espnet_tse_gen.bin import pack
from espnet_tse_gen.cli import COMMANDS, main
from espnet_tse_gen.inference import loading

WITHOUT_EXTRAS = Path(__file__).with_name("without_extras.py")


@pytest.fixture
def wavs(tmp_path):
    soundfile.write(tmp_path / "m.wav", mixture(0.8, rate=16000), 16000, subtype="PCM_24")
    soundfile.write(tmp_path / "e.wav", voice(1.0, 110.0, seed=5), RATE, subtype="FLOAT")
    return tmp_path


def extract(wavs, *more, output="out.wav", model=None):
    main(
        ["extract", "--mixture", str(wavs / "m.wav"), "--enroll", str(wavs / "e.wav"), "-o", str(wavs / output),
         "--model", str(model or tiny_exp_dir()), *more]
    )  # fmt: skip
    return wavs / output


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["serve", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    done = start(sys.executable, "-X", "importtime", "-m", "espnet_tse_gen.cli", *arguments)
    assert output_of(done)
    for heavy in ("torch", "numpy", "espnet2", "yaml", "soundfile"):
        assert f"| {heavy}\n" not in done.stderr.replace("|   ", "| ")
    if arguments == ["--version"]:
        assert done.stdout == f"tse-gen {__version__}\n"


@pytest.mark.slow
def test_extracting_with_the_models_that_ship_needs_the_base_installation_only(wavs):
    # In one process, as importing torch takes longer than all the rest.
    code = "import sys; from without_extras import Absent; sys.meta_path.insert(0, Absent()); from espnet_tse_gen import cli"
    given = ["extract", "--mixture", f"{wavs}/m.wav", "--enroll", f"{wavs}/e.wav", "--num_threads", "1", "--model"]
    models = loading.shipped_models()
    calls = [f"cli.main({[*given, model, '-o', f'{wavs}/{model}.wav']})" for model in models]
    done = start(sys.executable, "-c", "\n".join([code, *calls]), PYTHONPATH=f"{WITHOUT_EXTRAS.parent}:{ROOT}")
    output_of(done)
    assert done.stderr == "" and len(models) == 3 and all((wavs / f"{model}.wav").exists() for model in models)


def test_it_says_how_sure_it_is_and_that_nothing_came_out(wavs, capsys):
    extract(wavs, model="dual_path_16k", output="sure.wav")
    assert re.search(r"sure\.wav: 0\.80 s at 16000 Hz, confidence [01]\.\d\d\n", capsys.readouterr().out)
    soundfile.write(wavs / "m.wav", np.full(12800, 0.3), 16000)
    extract(wavs, model="dual_path_16k", output="silent.wav")
    told = capsys.readouterr()
    assert "confidence" not in told.out and f"silent.wav: is silent; in {wavs / 'm.wav'} there is nothing" in told.err
    soundfile.write(wavs / "e.wav", np.zeros(9000), RATE)
    refused(f"^{wavs / 'e.wav'}: is silent", extract, wavs, output="refused.wav")


def test_decoding_options_from_a_file_and_single_ones(wavs):
    given = extract(wavs, "--steps", "1", "--dtype", "float64", output="1.wav").read_bytes()
    mine = wavs / "mine.yaml"
    mine.write_text("steps: 1\n")
    assert extract(wavs, "--decode", str(mine), "--dtype", "float64", output="2.wav").read_bytes() == given
    mine.write_text("stepps: 2\n")
    refused("did you mean 'steps'", extract, wavs, "--decode", str(mine), output="3.wav")
    assert not (wavs / "3.wav").exists()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tse-gen ex", ["extract"]),
        ("tse-gen co", ["codec", "compare"]),
        ("tse-gen info tse", ["tse_gen_16k"]),
        ("tse-gen score --inf", ["--inf_scp"]),
        ("tse-gen extract --model mc", ["mc_spex_16k"]),
        ("tse-gen extract --decode st", ["stochastic"]),
    ],
)
def test_the_shell_completes(words, completed):
    asked = {"_TSE_GEN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = start(sys.executable, "-c", "from espnet_tse_gen.cli import entry; entry()", **asked)
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == completed


def test_every_command_is_a_program_of_its_own_too(capsys):
    for name, module in COMMANDS.items():
        main([name, "--help"])
        told = capsys.readouterr().out
        importlib.import_module(f"espnet_tse_gen.bin.{module}").main(["--help"])
        own = capsys.readouterr().out
        assert told.splitlines()[0].startswith("Usage: ") and told.splitlines()[2:] == own.splitlines()[2:]


def test_command_line_and_python_give_the_same(wavs):
    made = soundfile.read(extract(wavs, "--decode", "stochastic", "--seed", "7"), dtype="float32")[0]
    extractor = TargetSpeakerExtractor.from_pretrained(tiny_exp_dir(), decode="stochastic")
    extractor.options = {"steps": (8, 2), "temperature": 1.0, "choice_temperature": 1.0, "top_k": 0.1, "seed": 7}
    mixed, enroll = (soundfile.read(wavs / name, dtype="float32")[0] for name in ("m.wav", "e.wav"))
    request = extractor.request(mixed, enroll, 16000, enroll_sample_rate=RATE)
    np.testing.assert_allclose(extractor.extract([request])[0].samples, made, atol=2.0**-22)
    other = soundfile.read(extract(wavs, "--decode", "stochastic", "--seed", "8", output="8.wav"), dtype="float32")[0]
    assert not np.array_equal(made, other)


def test_shipped_model_is_found_by_name(wavs, monkeypatch, capsys):
    monkeypatch.setattr(loading, "SHIPPED", wavs / "pretrained")
    pack.main(["--exp_dir", str(tiny_exp_dir()), "--output", str(wavs / "pretrained" / loading.DEFAULT_MODEL)])
    main(["extract", "--mixture", str(wavs / "m.wav"), "--enroll", str(wavs / "e.wav"), "-o", str(wavs / "o.wav")])
    assert (wavs / "o.wav").exists()
    refused("did you mean 'dual_path_16k'", extract, wavs, model="dual_path", output="p.wav")
    capsys.readouterr()
    main(["info"])
    told = capsys.readouterr().out
    assert "mel, 8000 Hz, 50 frames/s, 4 codebooks x 16" in told and "# dual_path_16k" in told


@pytest.mark.parametrize(
    ("directory", "facts"),
    [
        (tiny_exp_dir(), "extractor:  masked, .* M parameters .*\ncodec:      mel, 8000 Hz"),
        (discriminative_exp_dir("spex_plus"), "extractor:  spex_plus, .*\nencoder and decoder: ms_conv .*, 8000 Hz"),
        (discriminative_exp_dir("dual_path"), "extractor:  dual_path, .*\nrate:       8000 Hz, waveform to waveform"),
    ],
)
def test_info_of_an_exp_directory(capsys, directory, facts):
    main(["info", "--model", str(directory)])
    told = capsys.readouterr().out
    assert told.startswith(f"model:      {directory}\ncheckpoint: valid.loss.ave.pth\n") and re.search(facts, told)
    main(["info", str(directory)])
    assert capsys.readouterr().out == told


def test_models_that_ship_and_codecs_in_the_cache_are_listed(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / ".cache/descript/dac/weights_16khz_8kbps_0.0.5.pth"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    main(["models"])
    before = capsys.readouterr().out
    names = [line.partition(":")[0] for line in before.splitlines() if not line.startswith(" ")]
    assert names == [*loading.shipped_models(), "codec_mini_16k"]
    assert "dual_path_16k: discriminative model, 16000 Hz, 6.0 MB, the default\n    Figures: SI-SDR " in before
    assert (
        before.count("\n    Figures: ") == before.count("\n    Licence") == before.count("\n    Data: ") == len(names)
    )
    assert "tse_gen_16k: masked generative model, 16000 Hz, " in before
    assert "\n    Licence of the weights: CC BY 4.0, after LibriSpeech (Panayotov et al., 2015)\n" in before
    assert max(map(len, before.splitlines())) < 300
    cached.parent.mkdir(parents=True)
    cached.write_bytes(bytes(1500000))
    main(["models"])
    assert capsys.readouterr().out == f"{before}dac at 16000 Hz: weights of a codec, 1.5 MB, in {cached}\n"


def test_doctor_says_what_is_missing(capsys):
    main(["doctor"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"espnet_tse_gen {__version__}, Python 3.")
    assert told[1] == "extraction with the models that ship: can be used"
    done = start(sys.executable, WITHOUT_EXTRAS, "espnet_tse_gen", "doctor")
    lines = output_of(done).splitlines()
    assert done.stderr == "" and lines[:2] == told[:2] and len(lines) == len(told)
    assert [line.partition("run: ")[2] for line in lines[2:]] == [
        "pip install 'espnet_tse_gen[espnet]'",
        "pip install 'espnet_tse_gen[score]'",
        "pip install 'espnet_tse_gen[dac]' && pip install --no-deps descript-audio-codec descript-audiotools",
        "pip install 'espnet_tse_gen[encodec]'",
        "pip install 'espnet_tse_gen[transformers]'",
        "pip install 'espnet_tse_gen[serve]'",
        "pip install 'espnet_tse_gen[hub]'",
    ]
    assert "needs encodec; run" in lines[5] and "pystoi" in lines[3]


def test_a_page_without_its_extra_names_the_command_that_installs_it():
    needs = (
        "this command needs the package 'gradio', which is not installed; run: pip install 'espnet_tse_gen[serve]'\n"
    )
    refused_in(start(sys.executable, WITHOUT_EXTRAS, "espnet_tse_gen", "serve"), f"tse-gen: error: {needs}")


@pytest.mark.parametrize("place", ["before", "after", "variable", "nowhere"])
def test_the_traceback_of_a_mistake_is_shown_on_demand(wavs, place):
    given = ["extract", str(wavs / "missing.wav"), "--enroll", str(wavs / "e.wav"), "-o", str(wavs / "o.wav")]
    given = ["--debug", *given] if place == "before" else [*given, "--debug"] if place == "after" else given
    debug = "1" if place == "variable" else ""
    done = start(sys.executable, "-m", "espnet_tse_gen", *given, TSE_GEN_DEBUG=debug)
    assert done.returncode == 2 and done.stdout == ""
    *more, last = done.stderr.splitlines()
    assert last == f"tse-gen: error: {wavs / 'missing.wav'}: no such file"
    assert (more[:1] == ["Traceback (most recent call last):"]) == (place != "nowhere") and bool(more) == (
        place != "nowhere"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["extrakt"],
            "unknown command 'extrakt': did you mean 'extract'? valid: check, codec, compare, doctor, extract, info, models,",
        ),
        (["extract", "--device"], "Option '--device' requires an argument"),
        (["extract", "--mixtur", "m.wav"], "unknown option '--mixtur': did you mean '--mixture'?"),
        (["extract", "m.wav"], "-o/--output: required; see --help"),
        (["extract", "m.wav", "-o", "o.wav"], "--enroll: required, or --enroll-range"),
        (["extract", "--enroll", "e.wav", "-o", "o.wav"], "MIXTURE: expected a recording, a folder"),
        (
            ["extract", "a.wav", "b.wav", "--enroll", "e.wav", "-o", "o.wav"],
            "o.wav: expected a folder, as there are 2 mixtures; each enrolment has an --enroll of its own",
        ),
        ([], "Missing command; see --help"),
        (["info", "--modle", "x"], "unknown option '--modle': did you mean '--model'?"),
        (["info", "mc_spex_16k", "--model", "tse_gen_16k"], "MODEL mc_spex_16k and --model tse_gen_16k: name one"),
        (["info", "mc_spex"], "unknown model 'mc_spex': did you mean 'mc_spex_16k'?"),
    ],
)
def test_bad_command_is_refused_in_one_line(arguments, message):
    refused_command(re.escape(message), main, *arguments)
