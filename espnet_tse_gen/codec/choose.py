"""Which codec ``--codec_config auto`` of a recipe stands for: DAC at 16 kHz where it can be had, else the one that ships.

What a recipe has prepared before stays chosen unless weights are asked for: a codec that becomes available between two runs
must not turn the second into another experiment.
"""

from pathlib import Path

from espnet_tse_gen.utils.errors import UserError

PREFERRED, SHIPPED, NARROW = "dac_16k", "mini_16k", "mel_8k"


def choose_codec(
    conf_dir: str, sample_rate: int, expdir: str | None = None, weights: str | None = None, download: bool = False
) -> tuple[Path, str]:
    """Return a file of ``conf_dir`` for recordings at ``sample_rate`` Hz and, for the reader, why it is that one.

    ``expdir`` is where the recipe puts codec directories (``codec_<name of the file>``), ``weights`` a file that the user
    names for DAC, and ``download`` says that weights will be fetched.

    Raises:
        UserError: If the chosen file is not there.
    """
    name, reason = _choose(sample_rate, expdir, weights, download)
    path = Path(conf_dir) / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; name one of {conf_dir} with --codec_config")
    return path, reason


def _choose(sample_rate: int, expdir: str | None, weights: str | None, download: bool) -> tuple[str, str]:
    if sample_rate < 16000:
        return NARROW, f"the recordings are at {sample_rate} Hz"
    for name in (PREFERRED, SHIPPED) if expdir else ():
        made = Path(str(expdir)) / f"codec_{name}" / "codec.yaml"
        if made.is_file() and (name == PREFERRED or not (weights or download)):
            return name, f"{made} is there"
    from espnet_tse_gen.codec.dac import RELEASES, dac_class

    try:
        dac_class()
    except UserError as error:
        if weights:
            raise
        return SHIPPED, f"it ships with the package; {error}"
    cache = RELEASES[16000].file.path
    if weights:
        return PREFERRED, f"its weights are given by --weights {weights}"
    if cache.is_file():
        return PREFERRED, f"its weights are in {cache}"
    if download:
        return PREFERRED, "its weights are to be fetched (--download true)"
    missing = f"the weights of {PREFERRED} are not in {cache}: fetch them with --codec_args '--download true'"
    return SHIPPED, f"it ships with the package; {missing}"
