"""What a data directory of an evaluation set says of itself: which targets, which enrolments, and what was changed.

Figures on Libri2Mix are comparable only where these agree, so they stand beside every result. The file ``protocol`` of a
data directory is a table of lines ``key value``.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp

TARGETS = ("all", "first")
_ENROLMENTS = {
    "but": "the list 'but' of BUT Speech@FIT: sources of other mixtures",
    "full": "the utterances of the list 'but', whole",
    "random": "drawn from the speaker's other recordings",
    "tselm": "drawn from the speaker's other recordings",
}


@dataclass(frozen=True)
class Protocol:
    """How a set is evaluated; rows are targets, numbers are of those that are counted."""

    enroll_list: str = "random"  # name of the list: `but`, `full`, `random`, `tselm`, or of a file
    enroll_list_sha256: str = "-"
    enroll_list_raw: bool = False  # whether enrolments that are the target utterance were left as the list has them
    targets: str = "all"  # `all`: every speaker of a mixture is a target in turn; `first`: only speaker 1
    mixtures: int = 0
    target_rows: int = 0
    leaks: int = 0  # rows of the list whose enrolment was the target utterance
    leaks_identical: int = 0  # of these, the very file
    leaks_replaced: int = 0
    missing_replaced: int = 0  # rows that got another enrolment, as the list's recording or the row was not there
    left_out: int = 0  # mixtures left out because a speaker has no other recording
    num_enrollments: int = 1
    fewer_enrollments: int = 0  # rows that have fewer than that
    seed: int = 0
    mix_type: str = "mix_clean"
    min_or_max: str = "min"
    sample_rate: str = "16k"

    def describe(self) -> str:
        """Return the protocol in a few sentences, for result tables: also what was done about leaks and missing recordings."""
        who = "every speaker" if self.targets == "all" else "speaker 1 only"
        text = f"{self.target_rows:,} targets ({who} of {self.mixtures:,} mixtures); enrolment: "
        text += _ENROLMENTS.get(self.enroll_list, f"the list '{self.enroll_list}'")
        if self.enroll_list in ("random", "tselm"):
            text += f" (seed {self.seed})"
        if self.enroll_list_sha256 != "-":
            text += f" (SHA-256 {self.enroll_list_sha256[:8]})"
        if self.num_enrollments > 1:
            text += f", {self.num_enrollments} recordings joined"
        text += "."
        if self.leaks:
            done = "kept as published" if self.enroll_list_raw else f"{self.leaks_replaced} replaced"
            text += (
                f" In {self.leaks} of {_rows(self.target_rows)} the list enrols with the target utterance itself "
                f"({self.leaks_identical} with the identical file): {done}."
            )
        if self.missing_replaced:
            text += f" In {_rows(self.missing_replaced)} the list's recording is not at hand and another was drawn."
        if self.fewer_enrollments:
            text += f" In {_rows(self.fewer_enrollments)} the speaker has fewer recordings than were asked for."
        return text


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"


def protocol_table(protocol: Protocol) -> dict[str, str]:
    """Return ``protocol`` as the table ``protocol`` of a data directory."""
    values = asdict(protocol).items()
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values}


def read_protocol(folder: str | Path) -> Protocol | None:
    """Return the protocol of the data directory ``folder``; None without one. A number that is none is a :class:`UserError`."""
    path = Path(folder) / "protocol"
    if not path.is_file():
        return None
    table = read_scp(path)
    values: dict[str, object] = {}
    for field in fields(Protocol):
        text = table.get(field.name, str(field.default).lower())
        try:
            values[field.name] = int(text) if field.type is int else text == "true" if field.type is bool else text
        except ValueError:
            raise UserError(f"{path}: '{field.name}' is '{text}'; expected a number; prepare the data again") from None
    return Protocol(**values)  # type: ignore[arg-type]
