import pytest
from refused import refused

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.files import read_yaml


def test_the_preset_is_the_file(repository):
    assert SegmentOptions.resolve("segments") == SegmentOptions()
    assert read_yaml(repository / "conf/decode/segments.yaml") == vars(SegmentOptions())
    assert SegmentOptions.resolve(repository / "conf/decode/segments.yaml") == SegmentOptions()
    assert SegmentOptions.resolve("augmented") == SegmentOptions(augmentations=2)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (
            SegmentOptions,
            "greedy_16",
            "preset 'greedy_16': is for other models, and this one is discriminative; .* segments",
        ),
        (DecodingOptions, "segments", "preset 'segments': is for other models, and this one is masked generative"),
        (SegmentOptions, "segmens", "preset of discriminative models 'segmens': did you mean 'segments'"),
        (SegmentOptions, {"steps": 2}, "'steps' is for masked generative models, and this one is discriminative"),
        (DecodingOptions, {"scale": "peak"}, "option 'scale' is for discriminative models"),
        (SegmentOptions, {"scale": "loud"}, "unknown value of decoding option 'scale' 'loud'"),
        (SegmentOptions, {"augmentations": 5}, "'augmentations': expected 1 to 4, found 5"),
        (SegmentOptions, {"segment_seconds": 0.01}, "'segment_seconds': expected 0, or at least 0.1 s"),
        (SegmentOptions, {"segment_seconds": 2, "overlap_seconds": 1}, "'overlap_seconds': expected at most a third"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(kind, value, message):
    refused(message, kind.resolve, value)
