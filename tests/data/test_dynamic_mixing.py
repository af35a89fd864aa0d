"""Dynamic mixing: what is drawn has the drawn ratios, is the sum of its parts, and follows from seed, epoch and number."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from scipy import stats

from espnet_tse_gen.data.degradation import draw_room, equalize, reverberate, synthetic_response
from espnet_tse_gen.data.dynamic_mixing import DrawnMixture, DynamicMixer
from espnet_tse_gen.data.mixing_options import MixingOptions
from espnet_tse_gen.data.sources import read_audio_list, read_sources, write_sources
from espnet_tse_gen.training.dataset import EpochBatches, drawn_batches

RATE = 8000
SECONDS = {"ann": (2.0, 1.2, 1.6), "bob": (1.0, 1.9), "cleo": (2.2,), "dan": (3.0, 0.7), "eve": (1.5,), "finn": (0.9,)}
ENROLL = (0.4, 0.8)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return str(path)


def write_speech(root: Path, recordings: Mapping[str, np.ndarray]) -> list[str]:
    """Write utterances, named by their speakers' names and a digit, and tables of them."""
    rows = [(name, name[:-1], write(root / "wav" / f"{name}.wav", samples)) for name, samples in recordings.items()]
    write_sources(root, rows)
    return [path for _, _, path in rows]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers, ``eve`` and ``finn`` with one utterance each, of noise at levels of their own; noises and a room."""
    root, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    lengths = {f"{speaker}{n}": one for speaker, own in SECONDS.items() for n, one in enumerate(own)}
    write_speech(root, {
        name: rng.uniform(0.02, 0.3) * rng.standard_normal(round(seconds * RATE)) for name, seconds in lengths.items()
    })  # fmt: skip
    write(root / "noise" / "long.wav", 0.1 * rng.standard_normal((3 * RATE, 2)))
    write(root / "noise" / "short.wav", 0.1 * rng.standard_normal(RATE // 5))
    response = np.zeros(RATE // 4)
    response[200], response[240:] = 1.0, 0.05 * rng.standard_normal(RATE // 4 - 240)
    write(root / "room" / "hall.wav", response)
    return root


def mixer(corpus: Path, samples: int = RATE, **options: Any) -> DynamicMixer:
    names = ("seed", "talkers", "rate", "band_rate", "items_per_epoch")
    own = {"rate": RATE, **{name: options.pop(name) for name in names if name in options}}
    conf = MixingOptions(**{"min_seconds": 0.8, **options})
    sources = read_sources(corpus / "wav.scp", corpus / "utt2spk")
    return DynamicMixer(sources, conf, samples=samples, enroll_seconds=ENROLL, **own)


def decibels(samples: np.ndarray) -> float:
    return 10.0 * float(np.log10(np.mean(np.square(samples, dtype=np.float64))))


def same(one: DrawnMixture, other: DrawnMixture) -> bool:
    arrays = [[each.mixture, each.targets[0].speech, each.targets[0].enroll] for each in (one, other)]
    alike = all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))
    return alike and one.pieces == other.pieces and one.sir_db == other.sir_db


@settings(max_examples=60, deadline=None)
@given(
    draw=st.tuples(st.integers(0, 2**31), st.integers(1, 10**6), st.integers(0, 10**6)),
    talkers=st.integers(1, 4),
    overlap=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted),
    sir_db=st.floats(0, 20),
    gain_db=st.floats(0, 10),
    absent=st.sampled_from([0.0, 0.5, 1.0]),
    noise=st.booleans(),
    reverb=st.sampled_from([None, "synthetic", "room"]),
    seconds=st.floats(0.1, 3.0),
)
def test_what_is_drawn(corpus, draw, talkers, overlap, sir_db, gain_db, absent, noise, reverb, seconds):
    seed, epoch, index = draw
    drawn = mixer(
        corpus, samples=round(seconds * RATE), seed=seed, talkers=talkers, overlap=overlap, sir_db=sir_db, gain_db=gain_db,
        absent_share=absent, noise=str(corpus / "noise") if noise else None, noise_snr_db=(-5, 15), rt60=(0.05, 0.2),
        reverb=str(corpus / reverb) if reverb == "room" else reverb,
    ).draw(epoch, index)  # fmt: skip
    length = len(drawn.mixture)
    target = drawn.targets[0]
    # The mixture is the sum of its parts, to the last bit.
    total = drawn.parts[0].copy()
    for part in [*drawn.parts[1:], *([] if drawn.noise is None else [drawn.noise])]:
        total += part
    np.testing.assert_array_equal(drawn.mixture, total)
    assert {array.dtype.name for array in (drawn.mixture, target.speech, target.enroll, *drawn.parts)} == {"float32"}
    assert len(drawn.parts) == talkers and {len(part) for part in drawn.parts} == {length}
    # Ratios and levels are those drawn.
    levels = [decibels(part[start:end]) for part, (start, end) in zip(drawn.parts, drawn.spans, strict=True)]
    assert all(abs(ratio) <= sir_db for ratio in drawn.sir_db)
    np.testing.assert_allclose([levels[0] - level for level in levels[1:]], drawn.sir_db, atol=1e-3)
    if noise:
        speech = np.sum(drawn.parts, axis=0)
        assert decibels(speech) - decibels(drawn.noise) == pytest.approx(drawn.snr_db, abs=1e-3)
    assert abs(decibels(drawn.mixture) + 26.0) <= gain_db + 1e-3
    assert decibels(target.enroll) == pytest.approx(-26.0, abs=1e-3)
    # Talkers are different speakers, in their places.
    speakers = [piece.source.speaker for piece in drawn.pieces]
    assert len(set(speakers)) == talkers
    for part, piece, (start, end) in zip(drawn.parts, drawn.pieces, drawn.spans, strict=True):
        assert not part[:start].any() and not part[end:].any() and piece.samples == end - start
        assert piece.start >= 0 and piece.start + piece.samples <= piece.source.seconds * RATE
    if talkers > 1:
        both = (min(end for _, end in drawn.spans) - max(start for start, _ in drawn.spans)) / length
        assert overlap[0] - 2 / length <= both <= overlap[1] + 2 / length
    # The enrolment is of the target speaker, and of nothing that is in the mixture.
    enroll = target.enroll_piece
    assert len(target.enroll) == enroll.samples <= round(ENROLL[1] * RATE)
    assert target.present or (enroll.source.speaker not in speakers and not target.speech.any())
    if target.present:
        assert target.speech is drawn.parts[0] and enroll.source.speaker == speakers[0]
        heard = drawn.pieces[0]
        if enroll.source == heard.source:
            assert len(mixer(corpus).usable[speakers[0]]) == 1
            assert enroll.samples >= round(ENROLL[0] * RATE)
            assert enroll.start + enroll.samples <= heard.start or heard.start + heard.samples <= enroll.start


def test_an_item_follows_from_seed_epoch_and_number_alone(corpus):
    options = {"noise": str(corpus / "noise"), "reverb": "synthetic", "rt60": (0.05, 0.2), "overlap": (0.3, 1.0)}
    one, other = mixer(corpus, **options), mixer(corpus, **options)
    order = np.random.default_rng(1).permutation(12)
    first = {index: one.draw(2, index) for index in range(12)}
    # Whatever was drawn before, and whatever NumPy's global generator is at.
    np.random.seed(5)
    assert all(same(first[index], other.draw(2, index)) for index in order)
    assert not any(same(first[index], other.draw(3, index)) for index in order)
    assert not any(same(first[index], mixer(corpus, seed=1, **options).draw(2, index)) for index in order)
    assert not any(same(first[index], first[index + 1]) for index in range(11))


def test_processes_share_every_batch():
    whole = drawn_batches(3, 5, 2)
    assert [key for batch in whole for key in batch] == [f"2-{number}" for number in range(15)]
    parts = [EpochBatches(lambda epoch: drawn_batches(3, 5, epoch), rank, 2).generate(2) for rank in (0, 1)]
    assert [sorted(one + other) for one, other in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_everybody_is_the_target_in_turn(corpus):
    drawing = mixer(corpus, items_per_epoch=4)
    assert drawing.targets == ["ann", "bob", "cleo", "dan", "eve"]  # finn's only utterance is too short to be parted
    items = [drawing.draw(1 + number // 4, number % 4).pieces[0].source for number in range(5 * 6)]
    assert Counter(item.speaker for item in items) == dict.fromkeys(drawing.targets, 6)
    laps = [tuple(item.speaker for item in items[first : first + 5]) for first in range(0, 30, 5)]
    assert {tuple(sorted(lap)) for lap in laps} == {tuple(drawing.targets)} and len(set(laps)) > 1
    assert {count for name, count in Counter(item.name for item in items).items() if name.startswith("ann")} == {2}
    assert {count for name, count in Counter(item.name for item in items).items() if name.startswith("bob")} == {3}
    # Of the two with one utterance that is long enough (dan's second is not), none is left.
    drawing = mixer(corpus, samples=800, single_utterance="drop")
    spoken = [[piece.source.speaker for piece in drawing.draw(1, number).pieces] for number in range(60)]
    assert {who for who, _ in spoken} == {"ann", "bob"} and {other for _, other in spoken} == set(SECONDS)


def test_ratios_are_symmetric_and_the_share_of_absent_targets_is_kept(corpus):
    drawing = mixer(corpus, samples=400, sir_db=6.0, absent_share=0.3)
    items = [drawing.draw(1, number) for number in range(600)]
    ratios = np.array([item.sir_db[0] for item in items])
    assert stats.kstest(ratios, stats.uniform(-6.0, 12.0).cdf).pvalue > 0.01
    assert abs(ratios.mean()) < 3.5 * 12.0 / np.sqrt(12 * 600)
    assert stats.binomtest(sum(not item.targets[0].present for item in items), 600, 0.3).pvalue > 0.01
    others = Counter(item.pieces[-1].source.speaker for item in items if item.targets[0].present)
    assert set(others) == set(drawing.speakers)


def test_a_speaker_at_another_speed_is_another_one(tmp_path):
    """Played at 1.25, a tone of 800 Hz is one of 1000 Hz; nobody is in a mixture twice; enrolments have the target's speed."""
    tones = {"ann": (800.0, 2), "bob": (1300.0, 2), "cleo": (2100.0, 1)}
    write_speech(tmp_path, {
        f"{speaker}{number}": 0.1 * np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE)
        for speaker, (hertz, utterances) in tones.items() for number in range(utterances)
    })  # fmt: skip
    drawing = mixer(tmp_path, talkers=3, speeds=[0.8, 1.0, 1.25], samples=RATE // 2)
    assert len(drawing.targets) == 9 and drawing.items_per_epoch == 15

    def pitch(samples: np.ndarray) -> float:
        return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))) * RATE / len(samples)

    seen = set()
    for number in range(36):
        drawn = drawing.draw(1, number)
        target = drawn.targets[0]
        for part, piece in [*zip(drawn.parts, drawn.pieces, strict=True), (target.enroll, target.enroll_piece)]:
            source = piece.source
            person = source.speaker.split("-")[-1]
            assert source.speaker == (person if source.speed == 1.0 else f"sp{source.speed:g}-{person}")
            assert pitch(part) == pytest.approx(tones[person][0] * source.speed, abs=RATE / len(part))
            assert source.seconds == pytest.approx(2.0 / source.speed)
            seen.add(source.speaker)
        assert {piece.source.speaker.split("-")[-1] for piece in drawn.pieces} == set(tones)
        assert target.enroll_piece.source.speaker == drawn.pieces[0].source.speaker
    assert len(seen) == 9
    # Three people at three speeds are three people.
    refused(r"3 speaker.s. .* expected at least 4", mixer, tmp_path, talkers=4, speeds=[0.8, 1.0, 1.25])


def test_talkers_and_enrolment_are_equalised_apart(corpus):
    """Of white noise, the spectrum shows each one's filter: within the drawn range, smooth, and another one for each."""
    plain, heard = mixer(corpus).draw(1, 0), mixer(corpus, equalize_db=12.0).draw(1, 0)
    assert heard.pieces == plain.pieces and heard.sir_db == plain.sir_db
    assert heard.targets[0].enroll_piece == plain.targets[0].enroll_piece
    gains, recordings = [], [[*drawn.parts, drawn.targets[0].enroll] for drawn in (plain, heard)]
    for before, after in zip(*recordings, strict=True):
        power = [np.square(np.abs(np.fft.rfft(each * np.hanning(len(each))))) for each in (before, after)]
        bands = [np.array([band.mean() for band in np.array_split(each, 24)]) for each in power]
        gains.append(10 * np.log10(bands[1] / bands[0]))
        assert np.ptp(gains[-1]) < 24.5 and np.abs(np.diff(gains[-1])).max() < 12.0
    assert all(np.std(one - other) > 1.0 for one, other in [gains[:2], gains[1:], gains[::2]])


@given(gains=st.lists(st.floats(-20, 20), min_size=2, max_size=9), samples=st.integers(1, 4000))
@settings(max_examples=30, deadline=None)
def test_equalisation_keeps_length_type_and_place(gains, samples):
    click = np.zeros(samples, dtype=np.float32)
    click[samples // 2] = 1.0
    made = equalize(click, RATE, np.array(gains))
    assert made.shape == click.shape and made.dtype == np.float32 and np.argmax(np.abs(made)) == samples // 2
    np.testing.assert_allclose(equalize(click, RATE, np.full(3, 6.0)), click * 10 ** (6 / 20), atol=1e-6)


def test_a_pause_is_not_taken_for_speech(tmp_path):
    """Of utterances that are silent but for a quarter, pieces are drawn that are not; a wholly silent one is refused."""
    rng = np.random.default_rng(0)
    sound = {name: 0.1 * rng.standard_normal(RATE // 2) for name in ("a0", "a1", "b0", "b1")}
    paths = write_speech(tmp_path, {name: np.pad(samples, (0, 3 * RATE // 2)) for name, samples in sound.items()})
    items = [mixer(tmp_path, samples=RATE).draw(1, number) for number in range(20)]
    assert all(part.any() for item in items for part in item.parts)
    # A silent noise is no noise.
    write(tmp_path / "noise" / "silence.wav", np.zeros(RATE))
    drawn = mixer(tmp_path, noise=str(tmp_path / "noise")).draw(1, 0)
    assert drawn.noise is None and drawn.snr_db is None
    for path in paths[:2]:
        write(Path(path), np.zeros(2 * RATE))
    refused(r"a\d.wav \(key 'a\d'\): is digital silence, but for a moment", mixer(tmp_path, samples=RATE).draw, 1, 0)


def test_a_recording_that_is_silent_but_for_a_moment_ends_no_training(tmp_path, caplog):
    # Mixture and enrolment are cut from one recording; of the last speaker's, one of the two has no sound.
    speech = dict(zip(("a0", "b0", "c0"), 0.1 * np.random.default_rng(0).standard_normal((3, 5 * RATE)), strict=True))
    speech["c0"][RATE // 10 :] = 0
    write_speech(tmp_path, speech)
    made, again = (mixer(tmp_path, samples=2 * RATE, single_utterance="cut", collections=None) for _ in range(2))
    items = [made.draw(1, number) for number in range(30)]
    assert all(part.any() for item in items for part in item.parts)
    assert all(target.enroll.any() for item in items for target in item.targets)
    told = [record.message for record in caplog.records if "digital silence" in record.message]
    assert len(told) == 1 and "c0.wav (key 'c0')" in told[0] and told[0].endswith("; drawing another")
    for number in (29, 3, 17):
        np.testing.assert_array_equal(again.draw(1, number).mixture, items[number].mixture)


def test_sources_at_another_rate_are_brought_to_the_codecs_band(corpus):
    """At 16 kHz through recordings of 8 kHz: twice the samples, and nothing above 4 kHz."""
    drawn = mixer(corpus, rate=2 * RATE, band_rate=RATE, samples=RATE).draw(1, 0)
    power = np.abs(np.fft.rfft(drawn.mixture * np.hanning(RATE))) ** 2
    assert len(drawn.mixture) == RATE and power[len(power) // 2 + 200 :].sum() < 1e-4 * power.sum()
    refused("sampling rate is 8000 Hz, expected at least 16000 Hz", mixer(corpus, rate=2 * RATE).draw, 1, 0)


@pytest.mark.parametrize("rt60", [0.1, 0.4])
def test_a_synthetic_room_has_its_reverberation_time(rt60):
    response = synthetic_response(np.random.default_rng(0), 16000, rt60, 3.0)
    assert len(response) == rt60 * 16000 and response[0] == 1.0
    assert 10 * np.log10(1.0 / np.sum(np.square(response[1:]))) == pytest.approx(3.0, abs=1e-3)
    remaining = 10 * np.log10(np.cumsum(np.square(response[:0:-1]))[::-1])
    # From 5 to 35 dB below the start of the decay (Schroeder's backward integration).
    first, last = (int(np.argmax(remaining < remaining[40] - level)) for level in (5, 35))
    assert 2 * (last - first) / 16000 == pytest.approx(rt60, rel=0.1)


def test_a_recorded_room_delays_nothing(corpus):
    recorded = read_audio_list(corpus / "room", "--reverb")
    (response,) = draw_room(np.random.default_rng(0), 1, RATE, (0.1, 0.2), (0, 10), recorded)
    assert response[0] == 1.0 and len(response) == RATE // 4 - 200
    click = np.zeros(1000, dtype=np.float32)
    click[100] = 1.0
    heard = reverberate(click, response)
    assert heard.dtype == np.float32 and len(heard) == 1000
    np.testing.assert_allclose(heard, np.convolve(click, response)[:1000], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sir_db": -1.0}, "sir_db: expected a number from 0 to 100, found -1.0"),
        ({"overlap": [0.5, 0.2]}, r"overlap: expected \[least, largest\] from 0 to 1, found \[0.5, 0.2\]"),
        ({"overlap": 1.0}, r"overlap: expected \[least, largest\]"),
        ({"single_utterance": "cutt"}, "'cutt': did you mean 'cut'"),
        ({"speeds": []}, r"speeds: expected different numbers from 0.5 to 2, as \[0.9, 1.0, 1.1\], found \[\]"),
        ({"speeds": [1, 1.0]}, "speeds: expected different numbers"),
        ({"speeds": ["1.0 1.1"]}, "speeds: expected different numbers"),
        ({"noise": "/nowhere"}, "noise: /nowhere: no such file or folder"),
        ({"reverb": "/nowhere"}, "reverb: /nowhere: no such file or folder"),
        ({"min_seconds": 2.1, "talkers": 3}, "2 speaker.s. .* 2.1 s .* 1 of whom can be enrolled; expected at least 3"),
        ({"talkers": 6, "absent_share": 0.1}, "6 speaker.s. .* expected at least 7 and 1"),
        ({"samples": 0}, "crop_seconds"),
    ],
)
def test_what_cannot_be_used_is_named(corpus, options, says):
    refused(says, mixer, corpus, **options)


def test_options_are_a_yamls():
    options = MixingOptions(sir_db=3, overlap=[0.5, 1])
    assert options.sir_db == 3.0 and options.overlap == (0.5, 1.0) and isinstance(options.sir_db, float)
    assert MixingOptions(speeds=[1, 1.1]).speeds == (1.0, 1.1) and MixingOptions(speeds=0.9).speeds == (0.9,)
    assert MixingOptions(speeds=[1], equalize_db=0) == MixingOptions()


def test_two_targets_are_the_talkers_with_enrolments_of_their_own(corpus):
    drawing = mixer(corpus, targets=2, absent_share=0.3, alone_share=0.2, crowd_share=0.2)
    kinds = Counter()
    for number in range(150):
        drawn = drawing.draw(1, number)
        present = [target for target in drawn.targets if target.present]
        kinds[len(drawn.parts), len(present)] += 1
        assert len(drawn.targets) == 2
        spoken = [piece.source.speaker for piece in drawn.pieces]
        enrolled = [target.enroll_piece.source.speaker for target in drawn.targets]
        assert len(set(spoken)) == len(spoken) and len(set(enrolled)) == 2
        for target, speaker in zip(drawn.targets, enrolled, strict=True):
            assert target.present == (speaker in spoken)
            wanted = drawn.parts[spoken.index(speaker)] if target.present else np.zeros_like(drawn.mixture)
            np.testing.assert_array_equal(target.speech, wanted)
            piece = drawn.pieces[spoken.index(speaker)] if target.present else None
            if piece is not None and piece.source is target.enroll_piece.source:
                # Cut from one recording, apart from each other.
                first, second = sorted([piece, target.enroll_piece], key=lambda each: each.start)
                assert first.start + first.samples <= second.start
    # Alone or not, in a crowd or not, with an absent target or not.
    assert {(1, 1), (1, 0), (2, 2), (2, 1), (3, 2), (3, 1)} >= kinds.keys() and len(kinds) >= 5


def test_bands_and_coding_change_what_is_heard_and_not_who_speaks(corpus):
    plain = mixer(corpus)
    for option, number in itertools.product(("band_share", "coding_share"), range(4)):
        one, two = plain.draw(1, number), mixer(corpus, **{option: 1.0}).draw(1, number)
        assert one.pieces == two.pieces and one.sir_db == two.sir_db
        assert not np.array_equal(one.mixture, two.mixture)
        assert len(one.mixture) == len(two.mixture) and np.isfinite(two.mixture).all()


def test_collections_are_drawn_by_their_shares_and_mixed_within_them(corpus):
    given = read_sources(corpus / "wav.scp", corpus / "utt2spk")
    sources = [dataclasses.replace(source, collection="a" if source.speaker < "d" else "b") for source in given]
    options = MixingOptions(collections={"a": 3.0, "b": 1.0}, collection_share=1.0, min_seconds=0.3)
    drawing = DynamicMixer(sources, options, RATE, 800, (0.1, 0.2))
    drawn = [drawing.draw(1, number) for number in range(200)]
    first = [item.pieces[0].source.collection for item in drawn]
    assert stats.binomtest(first.count("a"), 200, 0.75).pvalue > 0.01
    assert all(len({piece.source.collection for piece in item.pieces}) == 1 for item in drawn)
    unknown = dataclasses.replace(options, collections={"c": 1.0})
    refused("unknown collection .*'c'", DynamicMixer, sources, unknown, RATE, 800, (0.1, 0.2))
