"""The options of dynamic mixing, checked: ``dynamic_mixing_conf`` of a configuration in ``conf/train``."""

from collections.abc import Mapping
from dataclasses import dataclass

from espnet_tse_gen.utils.errors import UserError, unknown_name


@dataclass(frozen=True)
class MixingOptions:
    """How mixtures are drawn; whatever has a range is drawn uniformly from it. What cannot be used is a :class:`UserError`."""

    # largest ratio of the target to another talker in dB, either way: of mean powers, each over its own piece
    sir_db: float = 5.0
    # least and largest share of the mixture in which all talkers speak; one of them, drawn, begins it, and another ends it
    overlap: tuple[float, float] = (1.0, 1.0)
    # the mixture's level departs from the common level, which is that of a whole recording, by up to this, either way
    gain_db: float = 0.0
    targets: int = (
        1  # how many targets an item has, each with an enrolment. With 2, both talkers of a mixture are targets
    )
    # share of items whose (first) target is digital silence: the enrolment is of nobody in the mixture
    absent_share: float = 0.0
    alone_share: float = 0.0  # share of items with one talker only; further targets are then absent
    crowd_share: float = 0.0  # share of items with one talker more, who is nobody's target
    # A speaker with one usable utterance is enrolled from a part of it that is not in the mixture (`cut`), or no target (`drop`)
    single_utterance: str = "cut"
    # share of items whose target is of a collection (`utt2collection`), by its name, where speakers are drawn by the square root
    # of the number of their utterances; others are not drawn. None draws all speakers equally often
    collections: Mapping[str, float] | None = None
    # share of items whose other talkers are of the target's, too: those of two may be told apart without regard to the voice
    collection_share: float = 0.0
    min_seconds: float = 2.0  # utterances that are shorter are left out
    # speeds at which utterances are played; at another than 1, a speaker counts as another one. A mixture has nobody twice
    speeds: tuple[float, ...] = (1.0,)
    # every talker, and the enrolment, are heard through a smooth filter of their own, of gains up to this, either way
    equalize_db: float = 0.0
    # share of mixtures, and apart from them of enrolments, that hold a drawn band only: low-passed, or as of a telephone
    band_share: float = 0.0
    # share of mixtures, and apart from them of enrolments, that went through MP3 or Ogg Vorbis at low rates; of no targets
    coding_share: float = 0.0
    noise: str | None = None  # table or folder of noises (of several channels, the first is taken), or None
    noise_share: float = 1.0  # share of items with noise
    # least and largest ratio of all speech to the noise, over the whole mixture, dB
    noise_snr_db: tuple[float, float] = (5.0, 20.0)
    # `synthetic`, a table or folder of room impulse responses, or None: where talkers, the target too, not enrolments, are heard
    reverb: str | None = None
    reverb_share: float = 1.0  # share of items in a room
    rt60: tuple[float, float] = (0.15, 0.6)  # shortest and longest reverberation time of synthetic rooms, seconds
    drr_db: tuple[float, float] = (0.0, 10.0)  # least and largest ratio of direct to reverberant energy in them, dB

    def __post_init__(self) -> None:
        limits = {
            "sir_db": (0, 100), "overlap": (0, 1), "gain_db": (0, 100), "absent_share": (0, 1), "min_seconds": (0.05, 3600),
            "equalize_db": (0, 40), "noise_share": (0, 1), "noise_snr_db": (-100, 100), "reverb_share": (0, 1), "rt60": (0.01, 2),
            "drr_db": (-100, 100), "alone_share": (0, 1), "crowd_share": (0, 1), "band_share": (0, 1), "coding_share": (0, 1),
            "collection_share": (0, 1),
        }  # fmt: skip
        for name, (least, most) in limits.items():
            value, pair = getattr(self, name), isinstance(getattr(MixingOptions, name), tuple)
            numbers = list(value) if pair and isinstance(value, list | tuple) else [value]
            usable = all(isinstance(number, int | float) and least <= number <= most for number in numbers)
            if not usable or len(numbers) != 1 + pair or numbers != sorted(numbers):
                kind = "[least, largest]" if pair else "a number"
                raise UserError(f"--dynamic_mixing_conf {name}: expected {kind} from {least} to {most}, found {value}")
            # A yaml's lists and whole numbers, too.
            object.__setattr__(self, name, tuple(map(float, numbers)) if pair else float(numbers[0]))
        speeds = self.speeds if isinstance(self.speeds, list | tuple) else [self.speeds]
        usable = all(isinstance(speed, int | float) and 0.5 <= speed <= 2 for speed in speeds)
        if not usable or not speeds or len(set(speeds)) < len(speeds):
            raise UserError(
                f"--dynamic_mixing_conf speeds: expected different numbers from 0.5 to 2, as [0.9, 1.0, 1.1], found {self.speeds}"
            )
        object.__setattr__(self, "speeds", tuple(map(float, speeds)))
        if not isinstance(self.targets, int) or not 1 <= self.targets <= 4:
            raise UserError(f"--dynamic_mixing_conf targets: expected a whole number from 1 to 4, found {self.targets}")
        if (shares := self.collections) is not None:
            each = list(shares.values()) if isinstance(shares, Mapping) else []
            if not each or not all(isinstance(share, int | float) and share > 0 for share in each):
                raise UserError(
                    f"--dynamic_mixing_conf collections: expected shares above 0 as {{a: 0.7}}, found {shares}"
                )
        if self.alone_share + self.crowd_share > 1:
            raise UserError("--dynamic_mixing_conf alone_share, crowd_share: are more than 1 together; lower one")
        if self.single_utterance not in ("cut", "drop"):
            raise unknown_name("--dynamic_mixing_conf single_utterance", self.single_utterance, ("cut", "drop"))
