import re
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from refused import refused
from tiny_model import HOP, RATE, load, mixture, voice

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_yaml, write_yaml

LENGTHS = (1.0, 0.37, 2.115, 0.02, 1.6)


@pytest.fixture(scope="module")
def extractor():
    return load()


def correlation(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_output_is_aligned_with_the_mixture_at_another_rate():
    # Decoding with the mixture's phase attenuates bands of the mixture, so the result stays in step with it.
    extractor = load({"reconstruction": "mixture"})
    high = soxr.resample(mixture(1.0), RATE, 16000)
    out = extractor(high, voice(1.0, 110.0, seed=5, rate=16000), 16000)
    shifted = [correlation(out[20:-20], np.roll(high, shift)[20:-20]) for shift in range(-8, 9)]
    assert int(np.argmax(shifted)) == 8


def test_bfloat16_computes_in_bfloat16_and_gives_nearly_the_same():
    mixed, enroll = mixture(1.0), voice(1.0, 110.0, seed=5)
    extractors = [load("one_step", dtype=dtype) for dtype in ("float32", "bfloat16")]
    assert [extractor.model.precision for extractor in extractors] == ["float32", "bfloat16"]
    exact, fast = (extractor.extract([extractor.request(mixed, enroll)])[0] for extractor in extractors)
    assert (exact.codes == fast.codes).mean() > 0.9
    assert fast.samples.shape == mixed.shape and np.isfinite(fast.samples).all()


def test_a_model_trained_in_bfloat16_decodes_in_float32_unless_told_otherwise(exp_dir):
    config = read_yaml(exp_dir / "config.yaml")
    write_yaml(exp_dir / "config.yaml", {**config, "model_conf": {**config["model_conf"], "precision": "bfloat16"}})
    mixed, enroll = mixture(1.0), voice(1.0, 110.0, seed=5)
    out = TargetSpeakerExtractor.from_pretrained(exp_dir, decode="one_step")(mixed, enroll)
    np.testing.assert_array_equal(out, load("one_step")(mixed, enroll))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "decode", ["greedy_16", "one_step", "stochastic", {"joint": True, "steps": 4, "guidance": 1.5}]
)
def test_batch_equals_single_token_for_token(decode, dtype):
    extractor = load(decode, dtype=dtype)
    requests = [
        extractor.request(mixture(seconds, seed=n), voice(0.8 + 0.3 * n, 110.0, seed=n + 9), row_id=f"item{n}")
        for n, seconds in enumerate(LENGTHS)
    ]
    together = extractor.extract(requests)
    for request, row in zip(requests, together, strict=True):
        alone = extractor.extract([request])[0]
        assert alone.codes.shape == (4, -(-len(request.mixture) // HOP))
        np.testing.assert_array_equal(row.codes, alone.codes)
        np.testing.assert_array_equal(row.samples, alone.samples)
    for request, row in zip(requests[::-1], extractor.extract(requests[::-1]), strict=True):
        np.testing.assert_array_equal(row.codes, together[requests.index(request)].codes)


def test_a_share_of_the_estimate_is_where_decoding_starts():
    mixed, enroll = voice(2.4, 110.0, seed=1, rate=16000), voice(2.0, 110.0, seed=5, rate=16000)
    mixed = mixed + 0.5 * voice(2.4, 190.0, seed=2, rate=16000)
    extractor = TargetSpeakerExtractor.from_pretrained("tse_gen_16k")
    request = extractor.request(mixed, enroll)
    found = []
    for options in ({"start": 1.0}, {"start": 1.0, "chunk_seconds": 1.0, "chunk_overlap_seconds": 0.5}, {}):
        extractor.options = {"joint": True, "steps": 1, "reconstruction": "estimate", **options}
        found.append(extractor.extract([request])[0].codes)
    waveforms = (
        torch.from_numpy(np.asarray(request.mixture[:]))[None],
        torch.from_numpy(np.asarray(request.enroll))[None],
    )
    lengths = [torch.tensor([wav.shape[1]]) for wav in waveforms]
    estimate = extractor.model.estimate(waveforms[0], lengths[0], waveforms[1], lengths[1])
    np.testing.assert_array_equal(found[0], estimate.codes[0])
    # Of a chunk, the estimate is another one.
    assert (found[1] == found[0]).mean() > 0.8 > (found[2] == found[0]).mean()
    # The pass of the start is without guidance.
    extractor.options = {"joint": True, "steps": 1, "start": 0.5, "guidance": 2.0}
    assert extractor.passes == 3
    with pytest.raises(UserError, match="'start'"):
        load({"start": 0.5})


def calls_of(model, monkeypatch):
    """Collect what ``model.conditions`` is given: samples of the mixture, and whether it is to do without the enrolment."""
    calls, conditions = [], model.conditions
    monkeypatch.setattr(
        model, "conditions", lambda *args: calls.append((args[0].wav.shape[1], args[2])) or conditions(*args)
    )
    return calls


def test_a_chunk_is_encoded_once_for_both_branches_and_an_enrolment_for_all_chunks_and_mixtures(monkeypatch):
    extractor = load({"steps": 1, "guidance": 1.5, "chunk_seconds": 0.6, "chunk_overlap_seconds": 0.1})
    calls, seen, encode = calls_of(extractor.model, monkeypatch), [], extractor.codec.encode
    enroll, other = voice(0.9, 110.0, seed=5), voice(0.7, 197.0, seed=6)
    monkeypatch.setattr(
        extractor.codec, "encode", lambda wav, lengths: seen.append(wav.shape[1]) or encode(wav, lengths)
    )
    first, _, third = (extractor(mixture(1.5), given) for given in (enroll, enroll, other))
    assert (seen.count(len(enroll)), seen.count(len(other))) == (1, 1)
    dropped = [drop for _, drop in calls]
    assert len(seen) - 2 == dropped.count(False) == dropped.count(True) > 6
    assert not np.array_equal(first, third)
    np.testing.assert_array_equal(extractor(mixture(1.5), enroll), first)


def test_seed_decides_in_stochastic_decoding_only():
    mixed, enroll = mixture(1.0), voice(1.0, 110.0, seed=5)

    def codes(decode, seed):
        extractor = load(DecodingOptions.preset(decode, seed=seed))
        return extractor.extract([extractor.request(mixed, enroll)])[0].codes

    assert (codes("stochastic", 0) == codes("stochastic", 0)).all()
    assert (codes("stochastic", 0) != codes("stochastic", 1)).any()
    assert (codes("greedy_16", 0) == codes("greedy_16", 1)).all()


def test_guidance_of_one_never_prepares_the_unconditional_branch(extractor, monkeypatch):
    calls, guided = calls_of(extractor.model, monkeypatch), load({"guidance": 2.0})
    default, twice = (one(mixture(1.0), voice(1.0, 110.0)) for one in (extractor, guided))
    assert [drop for _, drop in calls] == [False] and guided.passes == 2 * extractor.passes
    assert not np.array_equal(default, twice)


def test_long_input_is_decoded_in_chunks_of_bounded_size(monkeypatch):
    chunked, whole = load({"chunk_seconds": 1.0, "chunk_overlap_seconds": 0.2}), load({"chunk_seconds": 0.0})
    calls, mixed, enroll = calls_of(chunked.model, monkeypatch), mixture(4.63), voice(1.0, 110.0, seed=5)
    out = chunked.extract([chunked.request(mixed, enroll)])[0]
    assert out.samples.shape == mixed.shape and out.codes.shape == (4, -(-len(mixed) // HOP))
    assert len(calls) > 4 and max(size for size, _ in calls) <= 3 * RATE
    np.testing.assert_array_equal(chunked(mixture(0.9), enroll), whole(mixture(0.9), enroll))


def test_long_and_short_requests_mix():
    extractor = load({"chunk_seconds": 1.0, "chunk_overlap_seconds": 0.2, "steps": 1, "batch_size": 2})
    mixed = [mixture(seconds, seed=n) for n, seconds in enumerate((0.5, 2.2, 0.7, 1.5, 0.6))]
    enrolls = [voice(1.0, 110.0, seed=n + 9) for n in range(5)]
    for alone, row in zip(map(extractor, mixed, enrolls), extractor.extract_batch(mixed, enrolls), strict=True):
        np.testing.assert_array_equal(row, alone)


def test_enrolment_is_cut_to_what_the_extractor_uses(extractor):
    enroll = voice(5.0, 110.0)
    np.testing.assert_array_equal(
        extractor(mixture(0.5), enroll), extractor(mixture(0.5), np.r_[enroll[: 3 * RATE], voice(9.0, 300.0)])
    )


BAD_INPUT = {
    "stereo mixture": (np.zeros((100, 2), np.float32), None, "mixture 0: has shape"),
    "empty mixture": (np.zeros(0, np.float32), None, "mixture 0: has no samples"),
    "nan mixture": (np.r_[mixture(0.1), np.float32("nan")], None, "mixture 0: holds NaN"),
    "short mixture": (mixture(1.0)[: HOP - 1], None, "mixture 0: is 19.9 ms long, expected at least one frame"),
    "int64 mixture": (np.ones(1000, np.int64), None, "mixture 0: is of type int64"),
    "path of a mixture": ("m.wav", None, "m.wav: no such file"),
    "paths of enrolments": (None, [Path("e.wav"), "f.wav"], "e.wav: no such file"),
    "path in bytes": (b"m.wav", None, "mixture 0: has shape (), expected one channel"),
    "no enrolment": (None, [None], "enrolment 0 1: is of type NoneType"),
    "ragged mixture": ([[0.1, 0.2], [0.3]], None, "mixture 0: cannot be taken as samples"),
    "tensor without numbers": (torch.zeros(9000, device="meta"), None, "mixture 0: cannot be taken as samples"),
    "silent enrolment": (None, np.full(8000, 1e-5, np.float32), "enrolment 0: is silent"),
    "empty enrolment": (None, [], "enrolment 0: has no samples"),
    "short enrolment": (None, voice(1.0, 110.0)[:5], "enrolment 0: is 0.625 ms long"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_in_one_line(extractor, case):
    mixed, enroll, message = BAD_INPUT[case]
    given = [mixture(0.5) if mixed is None else mixed], [voice(1.0, 110.0) if enroll is None else enroll]
    refused(f"^{re.escape(message)}", extractor.extract_batch, *given)


@pytest.mark.parametrize(
    ("mixtures", "enrolls", "message"),
    [
        ("m.wav", ["e.wav"], "mixtures is of type str, expected a list of recordings"),
        ([mixture(0.5)], iter([0.1]), "enrolls is of type list_iterator, expected a list of recordings"),
        ([mixture(0.5)] * 2, voice(1.0, 110.0), r"2 mixtures and 8000 enrolments; .*\[enroll\] \* len\(mixtures\)"),
    ],
)
def test_what_is_no_batch_is_refused(extractor, mixtures, enrolls, message):
    refused(f"extract_batch: {message}", extractor.extract_batch, mixtures, enrolls)


ARRAYS = {
    "int16": lambda samples: (samples * 32768).round().astype(np.int16),
    "row": lambda samples: samples[None],
    "column": lambda samples: samples[:, None],
    "gradient": lambda samples: torch.from_numpy(samples).requires_grad_(),
    "bfloat16": lambda samples: torch.from_numpy(samples).bfloat16(),
    "float16": lambda samples: torch.from_numpy(samples).half(),
    "float64": lambda samples: torch.from_numpy(samples).double(),
    "lists": lambda samples: samples.tolist(),
    "big-endian": lambda samples: samples.astype(">f4"),
    "reversed": lambda samples: samples[::-1].copy()[::-1],
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_any_array_of_numbers_is_taken(extractor, kind):
    signals = [mixture(0.5), voice(1.0, 110.0)]
    mixed, enroll = map(ARRAYS[kind], signals)
    if kind == "int16":
        signals = [mixed / np.float32(32768), enroll / np.float32(32768)]
    elif kind in ("bfloat16", "float16"):
        signals = [mixed.float().numpy(), enroll.float().numpy()]
    made = extractor(*signals)
    np.testing.assert_array_equal(extractor(mixed, enroll, 8000.0), made)
    np.testing.assert_array_equal(extractor(mixed, [enroll], torch.tensor(8000)), made)


@pytest.mark.parametrize("rate", [0, 16000.5, "16000", float("nan"), 2**31, True, [16000, 8000]])
def test_impossible_rate_is_refused(extractor, rate):
    refused("sampling rate", extractor, mixture(0.5), voice(1.0, 110.0), rate)


def test_guidance_needs_condition_dropout(exp_dir):
    config = read_yaml(exp_dir / "config.yaml")
    write_yaml(exp_dir / "config.yaml", {**config, "model_conf": {"drop_enroll": 0.0, "drop_both": 0.0}})
    refused("condition dropout", TargetSpeakerExtractor.from_pretrained, exp_dir, decode={"guidance": 1.5})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decode": {"steps": [1] * 9}}, "codec has 4"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"device": "cuda:99"}, "device 'cuda:99': this machine has"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"model_file": "valid.loss.av.pth"}, "did you mean 'valid.loss.ave.pth'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    refused(message, load, **arguments)
