#!/usr/bin/env python3
"""Fit how a dual-path model says whether the enrolled speaker is in a mixture: ``extractor_conf: presence``.

    python benchmarks/presence.py --data_dir dump/raw/dev --model exp/dual_path_16k

Every target of the data is extracted by its own enrolment, and once by one of a speaker who is not in the mixture. What tells
the two apart is the cosine of the embeddings of output and enrolment; a logistic function of it is fitted to both kinds, which
count alike. Use the validation set: its speakers are not those of the training.
"""

from collections.abc import Sequence

from robustness import RATE, get_parser, read_items, strangers

from espnet_tse_gen.utils.errors import UserError, run_main


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser(str(__doc__), items=160).parse_args(cmd)
    import numpy as np
    import torch

    from espnet_tse_gen import TargetSpeakerExtractor

    torch.set_num_threads(args.threads)
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
    there, absent = x[y == 1], x[y == 0]
    area = (np.subtract.outer(there.numpy(), absent.numpy()) > 0).mean()
    right, wrong = ((part > middle).float().mean() for part in (there, absent))
    print(f"presence: [{slope:.1f}, {middle:.3f}]")
    print(
        f"{len(there)} present, {len(absent)} absent; above one half: {right:.1%} of the present, {wrong:.1%} of the absent; "
        f"area under the curve {area:.3f}"
    )


if __name__ == "__main__":
    run_main(main)
