"""SpEx+ (Ge et al., Interspeech 2020, arXiv 2005.04686): multi-scale masks, speaker embedding by concatenation.

The network is that of the authors' published code, but that the encoder covers the last samples of a signal, and that padding
enters neither the embedding nor any other statistic.
"""

from espnet_tse_gen.discriminative.mc_spex import MCSpExExtractor


class SpExPlusExtractor(MCSpExExtractor):
    """MC-SpEx without its parts: the embedding enters at the head of each stack, the scales do not interact."""

    name = "spex_plus"

    def __init__(
        self,
        input_dim: int,  # this and all others: see :class:`MCSpExExtractor`
        num_train_spk: int = 0,
        *,
        bottleneck_channel: int = 256,
        hidden_channel: int = 512,
        kernel_size: int = 3,
        stacks: int = 4,
        blocks: int = 8,
        embedding_dim: int = 256,
        speaker_channel: int = 256,
        speaker_wide_channel: int = 512,
    ) -> None:
        super().__init__(
            input_dim,
            num_train_spk,
            fusion="none",
            share_fusion=False,
            modulation="concat",
            mask_interaction="none",
            bottleneck_channel=bottleneck_channel,
            hidden_channel=hidden_channel,
            kernel_size=kernel_size,
            stacks=stacks,
            blocks=blocks,
            embedding_dim=embedding_dim,
            speaker_channel=speaker_channel,
            speaker_wide_channel=speaker_wide_channel,
        )
