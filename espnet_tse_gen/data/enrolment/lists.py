"""Enrolment lists: which recordings enrol for which target of an evaluation set.

A list is chosen by name or is a file. A line names a mixture, its target and one or more recordings of the target's
speaker; these forms are read:

    UTT1_UTT2 UTT2 s1/UTT3_UTT4 [...]     BUT Speech@FIT: the recording is source 1 of another mixture
    UTT1_UTT2_2 dev-clean/A/B/C.flac ...  PureSound: speaker 2, files relative to LibriSpeech
    UTT1_UTT2 /path/to/C.flac             Kaldi: speaker 1, any file (``UTT1_UTT2.wav`` names the mixture as well)

In all of them a recording is ``s{n}/MIXTURE``, a file (absolute or relative to LibriSpeech), or the name of an
utterance of LibriSpeech.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_tse_gen.data.enrolment.protocol import TARGETS
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.fetch import fetch, file_sha256
from espnet_tse_gen.utils.files import read_text

# Lists with a name. "full" has the rows of "but"; the last two are drawn and have no file.
PUBLISHED = ("but", "full")
DRAWN = ("random", "tselm")
NAMES = (*PUBLISHED, *DRAWN)
BUT_URL = "https://raw.githubusercontent.com/BUTSpeechFIT/speakerbeam/main/egs/libri2mix/data/wav8k/min/{set}/map_mixture2enrollment"
_BUT_SETS = ("dev", "test")


@dataclass(frozen=True)
class EnrolmentOptions:
    """What the user chose, by the names of the options; a value that cannot be used is a :class:`UserError`."""

    # `but`: the published list of BUT Speech@FIT; `full`: its utterances, whole, from LibriSpeech; `random`: a seeded
    # choice; `tselm`: a seeded choice for speaker 1 only, as TSELM and LauraTSE evaluate; otherwise a file, in which
    # `{set}` stands for the set's name
    enroll_list: str = "random"
    enroll_list_raw: bool = False  # keep enrolments that are the target utterance, as the list has them
    num_enrollments: int = 1  # recordings per target to join into one enrolment
    targets: str = ""  # `all` or `first` speakers are targets; empty: as is usual for the list
    enroll_dir: str | Path = "downloads"  # where published lists are kept
    download: bool = True  # fetch a published list that is not there
    enroll_url: str | None = None  # address of the published lists, with `{set}`; None: `BUT_URL`
    seed: int = 0  # what draws follow from
    allow_missing: bool = False  # draw another recording where the list's is not there, instead of stopping

    def __post_init__(self) -> None:
        if self.targets and self.targets not in TARGETS:
            raise unknown_name("--targets", self.targets, TARGETS)
        if not 1 <= self.num_enrollments <= 10:
            raise UserError(f"--num_enrollments is {self.num_enrollments}; expected 1 to 10")
        given = self.enroll_list
        if given not in NAMES and "{set}" not in given and not Path(given).is_file():
            if "/" in given or "." in given:
                raise UserError(f"--enroll_list {given}: no such file; give a list, or {', '.join(NAMES)}")
            raise unknown_name("--enroll_list", given, NAMES)

    @property
    def only_first(self) -> bool:
        """Whether speaker 1 is the only target."""
        return (self.targets or ("first" if self.enroll_list == "tselm" else "all")) == "first"

    @property
    def title(self) -> str:
        """The list's name as results state it."""
        return self.enroll_list if self.enroll_list in NAMES else "_".join(Path(self.enroll_list).name.split())


@dataclass
class EnrolmentList:
    """The rows of a list: ``(mixture, number of the target from 1)`` -> its recordings, as the list names them."""

    path: Path
    sha256: str
    rows: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)


def list_file(options: EnrolmentOptions, subset: str, number_of_speakers: int = 2) -> Path | None:
    """Return the file of the list for a set, fetched first where it is a published one; None for a drawn one.

    Where there is none, or it cannot be fetched, it is a :class:`UserError` that says what to put where.
    """
    if options.enroll_list in DRAWN:
        return None
    if options.enroll_list not in PUBLISHED:
        path = Path(options.enroll_list.replace("{set}", subset))
        if not path.is_file():
            raise UserError(f"--enroll_list {path}: no such file")
        return path
    if subset not in _BUT_SETS or number_of_speakers not in (2, 3):
        raise UserError(
            f"--enroll_list {options.enroll_list}: is published for {' and '.join(_BUT_SETS)} of two and three speakers, not "
            f"for '{subset}' of {number_of_speakers}; choose random, or give a file"
        )
    suffix = "_3spk" if number_of_speakers == 3 else ""
    url = (options.enroll_url or BUT_URL).replace("{set}", subset) + suffix
    path = Path(options.enroll_dir) / f"but_{subset}_map_mixture2enrollment{suffix}"
    there = path.is_file()
    if not there and not options.download:
        raise UserError(f"{path}: no such file; allow --download true, put {url} there, or choose --enroll_list random")
    try:
        fetch(url, path)
    except UserError as error:
        raise UserError(f"{error}; or choose --enroll_list random") from error
    if not there and not re.match(r"\S+_\S+ \S+ s[1-9]/\S+_\S+\n", path.read_text(encoding="utf-8", errors="replace")):
        # Such as the page on which a network asks for a password.
        for wrong in (path, path.with_name(f"{path.name}.sha256")):
            wrong.unlink(missing_ok=True)
        raise UserError(f"{path}: {url} gave something that is no enrolment list; nothing was kept, fetch it elsewhere")
    return path


def read_list(path: str | Path, known: Mapping[str, Sequence[str]]) -> EnrolmentList:
    """Read the rows of a list that belong to ``known`` mixtures, of which it says the utterance of each source.

    A line of another form, a row that occurs twice, and no row of a known mixture are a :class:`UserError`.
    """
    found = EnrolmentList(Path(path), file_sha256(path))
    for number, line in enumerate(read_text(path).split("\n"), 1):
        name, *fields = line.split() or [""]
        name, target = name.removesuffix(".wav"), 1
        if name in known:
            if len(fields) != 1 and fields[:1] and fields[0] in known[name]:
                target = list(known[name]).index(fields.pop(0)) + 1
        else:
            name, _, digit = name.rpartition("_")
            if not re.fullmatch("[1-9]", digit) or int(digit) > len(known.get(name, ())):
                continue
            target = int(digit)
        if not fields:
            raise UserError(f"{path}:{number}: names no enrolment; expected 'MIXTURE TARGET RECORDING', found '{line}'")
        if (name, target) in found.rows:
            raise UserError(f"{path}:{number}: speaker {target} of '{name}' occurs twice")
        # One file whose path has spaces.
        whole = line.split(maxsplit=1)[-1].strip()
        found.rows[name, target] = (whole,) if len(fields) > 1 and Path(whole).is_file() else tuple(fields)
    if not found.rows:
        raise UserError(
            f"{path}: has no line 'MIXTURE TARGET RECORDING' for any of the set's {len(known)} mixtures; give the list "
            "of this set (a fetched file that is something else must be deleted)"
        )
    return found
