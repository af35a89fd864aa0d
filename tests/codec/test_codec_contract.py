"""What every codec family promises, checked alike for all of them on real architectures with small random weights."""

import numpy as np
import pytest
import torch
from codec_families import FAMILIES, PROJECTED, WHOLE, make, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from tiny_codecs import PcmCodec
from torch import Tensor

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.prepare import lag, measure_delay, probe_signals
from espnet_tse_gen.codec.registry import load_codec, save_codec

FEW = settings(max_examples=8, deadline=None, derandomize=True)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def codec(family: str) -> AbsCodec:
    return make(family)


@FEW
@given(data=st.data())
def test_lengths(codec: AbsCodec, data: st.DataObject) -> None:
    most = codec.sample_rate
    at_frames = st.builds(
        lambda frames, more: max(1, frames * codec.hop + more),
        st.integers(0, most // codec.hop - 1),
        st.integers(-1, 1),
    )
    samples = data.draw(st.one_of(st.sampled_from((1, most)), at_frames, st.integers(1, most)))
    encoded = codec.encode(noise(1, samples))
    frames = -(-samples // codec.hop)
    assert codec.num_frames(samples) == frames
    assert encoded.codes.shape == (1, codec.num_codebooks, frames) and encoded.codes.dtype == torch.int64
    assert encoded.latents.shape == (1, codec.latent_dim, frames)
    assert encoded.lengths.tolist() == [frames]
    assert int(encoded.codes.min()) >= 0 and int(encoded.codes.max()) < codec.codebook_size
    assert codec.decode(encoded.codes).shape == (1, frames * codec.hop)


@FEW
@given(sizes=st.lists(st.integers(1, 2500), min_size=2, max_size=3), extra=st.integers(0, 700))
def test_batch_equals_single_whatever_the_padding_holds(codec: AbsCodec, sizes: list[int], extra: int) -> None:
    wav = torch.full((len(sizes), max(sizes) + extra), 9.0)
    for row, size in enumerate(sizes):
        wav[row, :size] = noise(size, seed=row)
    batch = codec.encode(wav, torch.tensor(sizes))
    decoded = codec.decode(batch.codes, batch.lengths)
    for row, size in enumerate(sizes):
        single = codec.encode(noise(size, seed=row).unsqueeze(0))
        frames = int(single.lengths[0])
        assert int(batch.lengths[row]) == frames
        assert torch.equal(batch.codes[row, :, :frames], single.codes[0])
        assert torch.equal(batch.latents[row, :, :frames], single.latents[0])
        assert not batch.codes[row, :, frames:].any() and not batch.latents[row, :, frames:].any()
        assert torch.equal(decoded[row, : frames * codec.hop], codec.decode(single.codes)[0])
        assert not decoded[row, frames * codec.hop :].any()


def test_rows_computed_together_have_the_codes_of_each_alone(codec: AbsCodec, monkeypatch) -> None:
    """Kernels round differently for other shapes; that may move latents in their last digits, and here no code."""
    sizes = [7 * codec.hop, 1, 12 * codec.hop - 5, 2 * codec.hop, 12 * codec.hop, 7 * codec.hop - 1]
    rows = [noise(size, seed=seed) for seed, size in enumerate(sizes)]
    alone = codec.encode_rows(rows)
    monkeypatch.setattr(codec, "batched", True)
    together = codec.encode_rows(rows)
    for (codes, latents), (codes_alone, latents_alone) in zip(together, alone, strict=True):
        assert torch.equal(codes, codes_alone)
        torch.testing.assert_close(latents, latents_alone, rtol=1e-3, atol=1e-4)


def test_padding_changes_nothing_away_from_it(codec: AbsCodec, family: str) -> None:
    if family in WHOLE:
        pytest.skip("it normalises over the whole recording")
    wav = noise(1, 40 * codec.hop)
    padded = torch.nn.functional.pad(wav, (0, 10 * codec.hop))
    away = 24
    alone, beside = codec.encode(wav), codec.encode(padded)
    assert torch.equal(alone.codes[..., :away], beside.codes[..., :away])
    torch.testing.assert_close(alone.latents[..., :away], beside.latents[..., :away])


def test_latents_are_the_sum_of_the_first_codebooks_vectors(codec: AbsCodec) -> None:
    codes, every = codec.encode(noise(2, 3000)).codes, codec.num_codebooks
    books = [codec.codebook(number) for number in range(every)]
    assert [book.shape for book in books] == [(size, codec.latent_dim) for size in codec.codebook_sizes]
    for count in (1, every):
        want = sum(book[codes[:, number]] for number, book in enumerate(books[:count])).transpose(1, 2)
        latents = codec.latents_of(codes, num_codebooks=count)
        torch.testing.assert_close(latents, want)
        assert torch.equal(codec.decode(codes, num_codebooks=count), codec.decode_latents(latents))
    assert torch.equal(codec.latents_of(codes), latents) and codec.codebook_size == max(codec.codebook_sizes)
    for wrong in (0, every + 1):
        refused("codebooks", codec.decode, codes, num_codebooks=wrong)


@pytest.mark.parametrize("delay", [5, -7])
def test_the_delay_is_taken_out_of_the_output(codec: AbsCodec, delay: int, monkeypatch) -> None:
    codes, before = codec.encode(noise(1, 3000)).codes, codec.delay
    plain = codec.decode(codes)
    monkeypatch.setattr(codec, "delay", before + delay)
    moved = codec.decode(codes)
    assert moved.shape == plain.shape
    if delay > 0:
        assert torch.equal(moved[:, :-delay], plain[:, delay:])
    else:
        assert torch.equal(moved[:, -delay:], plain[:, :delay]) and not moved[:, : -delay - before].any()


def test_codes_are_the_nearest_entries(codec: AbsCodec, family: str) -> None:
    """In codebook 1 no other entry is nearer to the latents, on the bands that it describes."""
    if family in PROJECTED:
        pytest.skip("its quantizer looks for the nearest entry in a space of its own")
    encoded = codec.encode(noise(1, 3000))
    first = codec.codebook(0)
    used = first.abs().sum(dim=0) > 0
    distances = torch.cdist(encoded.latents[0].T[:, used].double(), first[:, used].double())
    chosen = distances.gather(1, encoded.codes[0, 0].unsqueeze(1)).squeeze(1)
    assert torch.all(chosen <= distances.min(dim=1).values + 1e-4)


def test_nothing_depends_on_autocast_or_train_mode(codec: AbsCodec) -> None:
    wav = noise(1, 3000)
    want = codec.encode(wav)
    wanted = codec.decode(want.codes)
    codec.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = codec.encode(wav)
        assert torch.equal(codec.decode(found.codes), wanted)
    assert torch.equal(found.codes, want.codes) and torch.equal(found.latents, want.latents)
    assert not codec.training and not any(parameter.requires_grad for parameter in codec.parameters())
    assert not found.latents.requires_grad


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(codec: AbsCodec, tmp_path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    save_codec(codec, tmp_path / "a")
    wav, on_gpu = noise(2, 8000), load_codec(tmp_path / "a").to("cuda")
    want, found = codec.encode(wav), on_gpu.encode(wav.cuda())
    torch.testing.assert_close(found.latents.cpu(), want.latents, atol=1e-3, rtol=1e-3)
    # Two entries may be equally near to within rounding; a residual codebook after such a tie differs too.
    assert (found.codes.cpu() == want.codes).float().mean() > 0.99
    assert on_gpu.fingerprint() == codec.fingerprint()
    assert on_gpu.decode(found.codes, mixture=wav if codec.supports_mixture else None).is_cuda


def test_bad_samples_are_refused(codec: AbsCodec) -> None:
    wav = noise(2, 1000)
    for value in (float("nan"), float("inf"), -float("inf")):
        wav[1, 500] = value
        refused(r"row 1.*NaN or infinite", codec.encode, wav)
    codec.encode(wav, torch.tensor([1000, 500]))  # the bad sample is padding now


def test_bad_shapes_and_codes_are_refused(codec: AbsCodec) -> None:
    codebooks, size = codec.num_codebooks, codec.codebook_size
    calls = [
        (lambda: codec.encode(noise(100)), "expected waveforms"),
        (lambda: codec.encode(torch.zeros(1, 0)), "expected waveforms"),
        (lambda: codec.encode(noise(1, 100), torch.tensor([0])), "lengths"),
        (lambda: codec.encode(noise(1, 100), torch.tensor([101])), "lengths"),
        (lambda: codec.encode(noise(1, 100), torch.tensor([1, 1])), "lengths"),
        (lambda: codec.decode(torch.zeros(1, codebooks + 1, 4).long()), f"expected codes .B, {codebooks}, T"),
        (lambda: codec.decode(torch.full((1, codebooks, 4), size)), "mask token never"),
        (lambda: codec.decode(torch.full((1, codebooks, 4), -1)), "codes must be"),
        (lambda: codec.decode(torch.zeros(1, codebooks, 4)), "integer codes"),
        (lambda: codec.decode_latents(torch.zeros(1, codec.latent_dim + 1, 4)), "expected latents"),
    ]
    for call, message in calls:
        refused(message, call)


def test_mixture_is_used_or_refused(codec: AbsCodec) -> None:
    target, other = noise(1, 4000, seed=1), noise(1, 4000, seed=2)
    codes = codec.encode(target).codes
    if not codec.supports_mixture:
        refused("cannot use the mixture", codec.decode, codes, mixture=target + other)
        return
    for part in (4000, 3000, 5000):
        assert codec.decode(codes, mixture=noise(1, part)).shape[1] == codec.num_frames(4000) * codec.hop
    refused("mixture holds NaN", codec.decode, codes, mixture=torch.full((1, 4000), float("nan")))


@pytest.mark.parametrize("name", ["mel", "mel_residual", "mel_8k"])
def test_codes_of_the_mixture_leave_the_mixture_as_it_is(name: str) -> None:
    codec = make(name)
    mixture = noise(1, 4000)
    encoded = codec.encode(mixture)
    for wav in (codec.decode(encoded.codes, mixture=mixture), codec.decode_latents(encoded.latents, mixture=mixture)):
        torch.testing.assert_close(wav[:, :4000], mixture, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["mel", "mel_residual"])
def test_an_estimate_is_changed_to_the_latents_whether_too_loud_or_too_faint(name: str) -> None:
    codec = make(name)
    target = noise(1, 6400)
    latents, codes = codec.encode(target).latents, codec.encode(target).codes
    for factor in (0.2, 1.0, 5.0):
        wav = codec.decode_latents(latents, estimate=factor * target)[:, :6400]
        assert (wav - target).square().mean() < 1e-3 * target.square().mean(), factor
    # An estimate that has the codes already stays as it is.
    torch.testing.assert_close(codec.decode(codes, estimate=target)[:, :6400], target, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["mini", "mel", "encodec"])
def test_half_precision_halves_the_file_and_is_the_codec_that_loads(name: str, tmp_path) -> None:
    codec, wav = make(name), noise(1, 2000)
    save_codec(codec, tmp_path / "whole")
    save_codec(codec, tmp_path / "half", half=True)
    half, whole = ((tmp_path / name / "weights.pth").stat().st_size for name in ("half", "whole"))
    assert half < 0.8 * whole
    loaded = load_codec(tmp_path / "half")
    assert loaded.fingerprint() == codec.fingerprint()
    assert torch.equal(loaded.encode(wav).codes, codec.encode(wav).codes)


def test_save_and_load(codec: AbsCodec, tmp_path) -> None:
    save_codec(codec, tmp_path / "a")
    loaded = load_codec(tmp_path / "a")
    wav = noise(1, 3000)
    assert loaded.fingerprint() == codec.fingerprint() and loaded.conf() == codec.conf()
    assert torch.equal(loaded.encode(wav).codes, codec.encode(wav).codes)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["codec.yaml", "weights.pth"]


def test_other_weights_are_refused(codec: AbsCodec, tmp_path) -> None:
    save_codec(codec, tmp_path / "a")
    state = torch.load(tmp_path / "a/weights.pth", weights_only=True)
    name = next(key for key, value in state.items() if value.is_floating_point() and value.numel() > 1)
    state[name].view(-1)[0] += 1e-3
    torch.save(state, tmp_path / "a/weights.pth")
    refused("fingerprint", load_codec, tmp_path / "a")
    del state[name]
    torch.save(state, tmp_path / "a/weights.pth")
    refused("does not hold the weights", load_codec, tmp_path / "a")
    (tmp_path / "a/weights.pth").write_bytes(b"nonsense")
    refused("is not a readable checkpoint", load_codec, tmp_path / "a")


def test_round_trip_has_no_delay_left() -> None:
    """P21 for the family whose phase comes from the mixture: the target in silence comes back aligned to the sample."""
    codec = make("mel")
    for signal in probe_signals(codec.sample_rate):
        wav = codec.decode(codec.encode(signal.unsqueeze(0)).codes, mixture=signal.unsqueeze(0))[0, : signal.shape[0]]
        shift, correlation = lag(signal.numpy(), wav.numpy(), 640)
        assert shift == 0 and correlation > 0.7


@pytest.mark.parametrize("samples", [0, 8, -13])
def test_measured_delay_is_compensated(samples: int) -> None:
    class Late(PcmCodec):
        def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
            return torch.roll(torch.nn.functional.pad(latents[0], (50, 50)), samples)[50:-50]

    codec = Late(8000)
    found = measure_delay(codec, max_lag=64)
    assert found == samples
    codec.delay += found
    assert measure_delay(codec, max_lag=64) == 0
    signal = probe_signals(codec.sample_rate)[0]
    made = codec.decode(codec.encode(signal.unsqueeze(0)).codes)[0]
    shift, correlation = lag(signal.numpy(), made.numpy(), 64)
    assert shift == 0 and correlation > 0.99
    noisy = np.random.default_rng(0).standard_normal(1000)
    assert lag(noisy, np.roll(noisy, samples), 20)[0] == samples
