"""What looks at the encoder's three scales together: scale fusers and the interactions inside them.

A fuser turns the concatenated scales into the features that a branch of the network works on: in SpEx+ by a norm and a
projection, in MC-SpEx (arXiv 2306.16250) with an interaction of the scales in between. The paper says that mixture and enrolment
share its weights, and that it has one input and one output tensor; what is inside is inferred.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import NUM_SCALES, ChannelNorm, GlobalNorm, zero_padding

NORMS: dict[str, type[ChannelNorm] | type[GlobalNorm]] = {"cln": ChannelNorm, "gln": GlobalNorm}
INTERACTIONS = ("tac", "conv2d", "none")


class TransformAverageConcatenate(nn.Module):
    """Interaction of scales in which each sees the average of all (TAC); all maps are 1x1 and shared by the scales.

    Inferred: the paper's first author's Inter-SubNet exchanges information between subbands in this way.
    """

    def __init__(self, channel: int, hidden_channel: int, norm: str = "cln") -> None:
        super().__init__()
        self.hidden_channel = hidden_channel
        self.transform = nn.Conv1d(channel, hidden_channel, 1)
        self.activation1 = nn.PReLU()
        self.average = nn.Conv1d(hidden_channel, hidden_channel, 1)
        self.activation2 = nn.PReLU()
        self.concatenate = nn.Conv1d(2 * hidden_channel, channel, 1)
        self.activation3 = nn.PReLU()
        self.norm = NORMS[norm](channel)

    def forward(self, x: Tensor, valid: Tensor | None = None, num_scales: int = NUM_SCALES) -> Tensor:
        """Return the first ``num_scales`` of ``x [B, 3 * channel, T]``, each with what it took from all others added."""
        batch, channel, frames = x.shape[0], x.shape[1] // NUM_SCALES, x.shape[2]
        hidden = self.activation1(self.transform(x.reshape(batch * NUM_SCALES, channel, frames)))
        hidden = hidden.view(batch, NUM_SCALES, self.hidden_channel, frames)
        mean = self.activation2(self.average(hidden.mean(1)))
        hidden = hidden[:, :num_scales].reshape(batch * num_scales, self.hidden_channel, frames)
        scales = x[:, : num_scales * channel].reshape(batch * num_scales, channel, frames)
        # The average's half of the last map is the same for all scales: computed once and added.
        weight = self.concatenate.weight
        own = F.conv1d(hidden, weight[:, : self.hidden_channel], self.concatenate.bias)
        common = F.conv1d(mean, weight[:, self.hidden_channel :])
        out = own.view(batch, num_scales, -1, frames) + common[:, None]
        out = self.activation3(out).view(scales.shape)
        if valid is not None:
            valid = valid.repeat_interleave(num_scales, 0)
        return (scales + self.norm(out, valid)).view(batch, num_scales * channel, frames)


class ConvolutionOverScales(nn.Module):
    """Interaction by two 3x3 convolutions over channels and frames, with the scales as the image's colours (inferred).

    Its view of neighbouring frames makes a speaker embedding depend on the order of the frames.
    """

    def __init__(self, image_channel: int = 16) -> None:
        super().__init__()
        self.expand = nn.Conv2d(NUM_SCALES, image_channel, 3, padding=1)
        self.norm = GlobalNorm(image_channel)
        self.activation = nn.PReLU()
        self.reduce = nn.Conv2d(image_channel, NUM_SCALES, 3, padding=1)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the scales ``[B, 3 * channel, T]``, each with what it took from the others added."""
        batch, channels, frames = x.shape
        image = zero_padding(x, valid).reshape(batch, NUM_SCALES, channels // NUM_SCALES, frames)
        hidden = self.activation(self.norm(self.expand(image), valid))
        return (image + self.reduce(hidden)).view(x.shape)


class ScaleFuser(nn.Module):
    """Norm over the channels of all scales, an interaction of the scales or none, and a 1x1 projection or none.

    Without interaction it is what SpEx+ has at the head of its extractor and of its speaker encoder.
    """

    def __init__(
        self,
        channel: int,  # channels of one scale
        out_channel: int,  # width of the result; 0 leaves out the projection, and the width is `3 * channel`
        interaction: nn.Module | None = None,  # what the scales exchange
    ) -> None:
        super().__init__()
        self.norm = ChannelNorm(NUM_SCALES * channel)
        self.interaction = interaction
        self.projection = nn.Conv1d(NUM_SCALES * channel, out_channel, 1) if out_channel else None

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B, out_channel, T]`` from the concatenated scales ``[B, 3 * channel, T]``."""
        x = self.norm(x)
        if self.interaction is not None:
            x = self.interaction(x, valid)
        return x if self.projection is None else self.projection(x)


class MaskGenerator(nn.Module):
    """Masks for the three scales: a 1x1 convolution each, an interaction of the three or none, ReLU.

    Without interaction these are the masks of SpEx+. With one it is the ScaleInterMG of MC-SpEx, of which the paper says that
    masks are made with other scales in view; what the interaction is, its place and its own weights are inferred.
    """

    def __init__(self, channel: int, mask_channel: int, interaction: TransformAverageConcatenate | None = None) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv1d(channel, mask_channel, 1) for _ in range(NUM_SCALES))
        self.interaction = interaction

    def forward(self, x: Tensor, valid: Tensor | None = None, num_scales: int = NUM_SCALES) -> Tensor:
        """Return the masks of the first ``num_scales`` scales, ``[B, num_scales * mask_channel, T]``."""
        needed = NUM_SCALES if self.interaction is not None else num_scales
        masks = torch.cat([projection(x) for projection in self.projections[:needed]], 1)
        if self.interaction is not None:
            masks = self.interaction(masks, valid, num_scales)
        return F.relu(masks)
