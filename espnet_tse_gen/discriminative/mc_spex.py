"""MC-SpEx (Chen et al., Interspeech 2023, arXiv 2306.16250): a reconstruction.

Stated by the paper's abstract: fusers of the scales with shared weights (ScaleFuser), masks made with all scales in
view (ScaleInterMG), and conditional modulation by the speaker embedding (ConSM), on top of SpEx+. Read from its figure:
encoder and fuser are shared by mixture and enrolment, ConSM and a number of TCN blocks repeat, the embedding goes to
every repetition, and the masks act on the encoder's features as they were before fusion. Everything inside these boxes
and every size is inferred; the inferred choices are options, with which the network can be turned back into SpEx+.
"""

import torch
from torch import Tensor, nn

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor
from espnet_tse_gen.discriminative.blocks import (
    ChannelNorm,
    GlobalNorm,
    ResNetEncoder,
    TCNStack,
    check_sizes,
    valid_frames,
    zero_padding,
)
from espnet_tse_gen.discriminative.fusion import (
    INTERACTIONS,
    NORMS,
    ConvolutionOverScales,
    MaskGenerator,
    ScaleFuser,
    TransformAverageConcatenate,
)
from espnet_tse_gen.utils.errors import unknown_name

MODULATIONS = ("film", "film_shared", "gate", "film_prelu_gln", "concat")
"""Forms of ConSM: what acts before every stack; nothing with ``concat``, where the stacks' first blocks see the embedding."""


class SpeakerModulation(nn.Module):
    """A form of ConSM, linear in the embedding ``e``: gain and offset of channels, or a gate.

    ``film``: ``(1 + G e) * gLN(x) + B e``, gLN without gain and offset. ``gate``: ``sigmoid(G e) * gLN(x)``. ``film_prelu_gln``:
    ``gLN(PReLU((1 + G e) * x + B e))``. The maps keep PyTorch's initialisation: with zeros the output would not depend on the
    enrolment at first, and the speaker encoder would get no gradient from the signals.
    """

    def __init__(self, form: str, channel: int, embedding_dim: int) -> None:
        super().__init__()
        self.form = form
        if form == "gate":
            self.gate = nn.Linear(embedding_dim, channel)
        else:
            self.gain = nn.Linear(embedding_dim, channel)
            self.offset = nn.Linear(embedding_dim, channel)
        if form == "film_prelu_gln":
            self.activation = nn.PReLU()
        self.norm = GlobalNorm(channel, affine=form == "film_prelu_gln")

    def forward(self, x: Tensor, embedding: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B, C, T]`` from ``x`` ``[B, C, T]`` and ``embedding`` ``[B, embedding_dim]``."""
        if self.form == "gate":
            return torch.sigmoid(self.gate(embedding))[:, :, None] * self.norm(x, valid)
        gain, offset = 1 + self.gain(embedding)[:, :, None], self.offset(embedding)[:, :, None]
        if self.form == "film_prelu_gln":
            return self.norm(self.activation(torch.addcmul(offset, x, gain)), valid)
        return torch.addcmul(offset, self.norm(x, valid), gain)


class MCSpExExtractor(AbsEmbeddingExtractor):
    """The extractor and speaker encoder of MC-SpEx (reconstruction)."""

    name = "mc_spex"

    def __init__(
        self,
        input_dim: int,  # channels of the encoder's features, those of all three scales
        num_train_spk: int = 0,  # training speakers that the classifier tells apart; 0 for no classifier
        *,
        fusion: str = "tac",  # how the scales interact in the ScaleFuser: `tac`, `conv2d`, or `none`; inferred
        # norm inside `tac`: `cln` (frame by frame), or `gln` (every frame of an enrolment sees the others); inferred
        fusion_norm: str = "cln",
        fusion_hidden_channel: int = 256,  # width of the interaction `tac`; inferred
        # whether the fuser projects for both branches (`shared`, as the figure shows), or each for itself (`separate`)
        fusion_projection: str = "shared",
        share_fusion: bool = True,  # whether mixture and enrolment go through one fuser; stated by the paper
        # whether the speaker encoder has a norm and a projection of its own behind the fuser, as in SpEx+; inferred
        speaker_front_end: bool = False,
        # the form of ConSM, of `MODULATIONS`: `film_shared` has the same weights in all repetitions; inferred
        modulation: str = "film",
        mask_interaction: str = "tac",  # how the scales interact in ScaleInterMG: `tac` or `none`; inferred
        interaction_hidden_channel: int = 256,  # width of that interaction; inferred
        bottleneck_channel: int = 256,  # channels between the blocks; all sizes from here on are those of SpEx+
        hidden_channel: int = 512,  # channels inside a block
        kernel_size: int = 3,  # frames that a block's depthwise convolution sees; odd
        stacks: int = 4,  # repetitions of ConSM and a stack of blocks (M in the figure)
        blocks: int = 8,  # blocks of a stack, with dilations 1, 2, 4, ... (N in the figure)
        embedding_dim: int = 256,  # width of the speaker embedding
        speaker_channel: int = 256,  # channels of the speaker encoder's first residual block
        speaker_wide_channel: int = 512,  # channels of its second and third residual block
    ) -> None:
        check_sizes(f"extractor '{self.name}'", locals())
        for what, option, value, valid in (
            ("interaction of scales", "fusion", fusion, INTERACTIONS),
            ("norm", "fusion_norm", fusion_norm, NORMS),
            ("place of the projection", "fusion_projection", fusion_projection, ("shared", "separate")),
            ("speaker modulation", "modulation", modulation, MODULATIONS),
            ("interaction of masks", "mask_interaction", mask_interaction, ("tac", "none")),
        ):
            if value not in valid:
                raise unknown_name(f"{what} (option '{option}')", value, valid)
        super().__init__(input_dim, num_train_spk, embedding_dim)

        def fuser(width: int) -> ScaleFuser:
            interaction: nn.Module | None = None
            if fusion == "tac":
                interaction = TransformAverageConcatenate(self.scale_channel, fusion_hidden_channel, fusion_norm)
            elif fusion == "conv2d":
                interaction = ConvolutionOverScales()
            return ScaleFuser(self.scale_channel, width if fusion_projection == "shared" else 0, interaction)

        self.fusion = fuser(bottleneck_channel)
        self.enroll_fusion = None if share_fusion else fuser(speaker_channel)
        separate = fusion_projection == "separate"
        self.projection = nn.Conv1d(input_dim, bottleneck_channel, 1) if separate else nn.Identity()
        self.enroll_projection = nn.Conv1d(input_dim, speaker_channel, 1) if separate else nn.Identity()
        speaker_input = bottleneck_channel if share_fusion and not separate else speaker_channel
        self.speaker_front_end: nn.Module = nn.Identity()
        if speaker_front_end:
            front_end = ChannelNorm(speaker_input), nn.Conv1d(speaker_input, speaker_channel, 1)
            self.speaker_front_end, speaker_input = nn.Sequential(*front_end), speaker_channel
        self.speaker_encoder = ResNetEncoder(speaker_input, speaker_channel, speaker_wide_channel, embedding_dim)

        count = {"concat": 0, "film_shared": 1}.get(modulation, stacks)
        self.modulations = nn.ModuleList(
            SpeakerModulation(modulation, bottleneck_channel, embedding_dim) for _ in range(count)
        )
        concatenated = embedding_dim if modulation == "concat" else 0
        self.stacks = nn.ModuleList(
            TCNStack(bottleneck_channel, hidden_channel, kernel_size, blocks, concatenated) for _ in range(stacks)
        )
        interaction = None
        if mask_interaction == "tac":
            interaction = TransformAverageConcatenate(self.scale_channel, interaction_hidden_channel, "gln")
        self.mask_generator = MaskGenerator(bottleneck_channel, self.scale_channel, interaction)

    def embed(self, input_aux: Tensor, ilens_aux: Tensor) -> Tensor:
        """Return the speaker embeddings; see :meth:`AbsEmbeddingExtractor.embed`."""
        features = input_aux.transpose(1, 2)
        valid = valid_frames(ilens_aux, features.shape[-1], features.device)
        fusion = self.fusion if self.enroll_fusion is None else self.enroll_fusion
        x = self.enroll_projection(fusion(features, valid))
        return self.speaker_encoder(self.speaker_front_end(x), ilens_aux)

    def extract(self, input: Tensor, ilens: Tensor, embedding: Tensor, num_scales: int = 1) -> Tensor:
        """Return the target's features; see :meth:`AbsEmbeddingExtractor.extract`."""
        features = input.transpose(1, 2)
        valid = valid_frames(ilens, features.shape[-1], features.device)
        x = self.projection(self.fusion(features, valid))
        for m, stack in enumerate(self.stacks):
            if len(self.modulations):
                x = self.modulations[m % len(self.modulations)](x, embedding, valid)
            x = stack(x, valid, embedding)
        masks = self.mask_generator(x, valid, num_scales)
        # Without the padding: the decoder's windows reach from there into valid samples.
        return zero_padding(masks * features[:, : masks.shape[1]], valid).transpose(1, 2)
