#!/usr/bin/env python3
"""Fit how a dual-path model says whether the enrolled speaker is in a mixture: ``extractor_conf: presence``.

    python benchmarks/presence.py --data_dir dump/raw/dev --model exp/dual_path_16k

Every target of the data is extracted by its own enrolment, and once by one of a speaker who is not in the mixture. What tells
the two apart is the cosine of the embeddings of output and enrolment; a logistic function of it is fitted to both kinds, which
count alike. Use the validation set: its speakers are not those of the training.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from robustness import RATE, read_items, strangers

from espnet_tse_gen.utils.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="mixtures, sources and enrolments")
    parser.add_argument("--model", required=True, help="exp directory, packed zip file, or shipped model")
    parser.add_argument("--items", type=int, default=160, help="targets (default: %(default)s)")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the fit."""
    args = get_parser().parse_args(cmd)
    import numpy as np
    import torch

    from espnet_tse_gen import TargetSpeakerExtractor

    torch.set_num_threads(1)
    extractor = TargetSpeakerExtractor.from_pretrained(args.model)
    network = extractor.model.extractor
    if getattr(network, "voice", None) is None:
        raise UserError(f"--model {args.model}: embeds no voices; give a dual-path model with speaker_embedding")
    items = read_items(args.data_dir, args.items)
    likeness, present = [], []
    for item, other in zip(items, strangers(items, items), strict=True):
        for enrolls, known in ((item.enrolls, 1.0), (other.enrolls, 0.0)):
            voice = extractor.extract([extractor.request(item.mixture, enrolls, RATE)])[0].samples
            made, own = network.voice([torch.from_numpy(one) for one in (voice, enrolls[0])])
            likeness.append(float(made @ own))
            present.append(known)
    x, y = torch.tensor(likeness), torch.tensor(present)
    weights = torch.tensor([10.0, 0.7], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(weights[0] * (x - weights[1]), y)
        value.backward()
        return value

    optimizer.step(loss)
    slope, middle = weights.tolist()
    found = x > middle
    pairs = np.subtract.outer(x[y == 1].numpy(), x[y == 0].numpy())
    print(f"presence: [{slope:.1f}, {middle:.3f}]")
    print(
        f"{int((y == 1).sum())} present, {int((y == 0).sum())} absent; above one half: {found[y == 1].float().mean():.1%} of the"
        f" present, {found[y == 0].float().mean():.1%} of the absent; area under the curve {(pairs > 0).mean():.3f}"
    )


if __name__ == "__main__":
    run_main(main)  # type: ignore[arg-type]
