"""SpEx+ (Ge et al., Interspeech 2020, arXiv 2005.04686): multi-scale masks, speaker embedding by concatenation.

The network is that of the authors' published code, with two deviations that change nothing for signals of whole hops
without padding: the encoder covers the last samples of a signal, and padded enrolment frames do not enter the
embedding. Beyond that, frames that pad a batch of different lengths enter no statistic.
"""

from torch import Tensor, nn

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor
from espnet_tse_gen.discriminative.blocks import ResNetEncoder, TCNStack, check_sizes, valid_frames
from espnet_tse_gen.discriminative.fusion import MaskGenerator, ScaleFuser


class SpExPlusExtractor(AbsEmbeddingExtractor):
    """The extractor and speaker encoder of SpEx+; the embedding enters at the head of each stack."""

    def __init__(
        self,
        input_dim: int,  # channels of the encoder's features, those of all three scales
        num_train_spk: int = 0,  # training speakers that the classifier tells apart; 0 for no classifier
        *,
        bottleneck_channel: int = 256,  # channels between the blocks
        hidden_channel: int = 512,  # channels inside a block
        kernel_size: int = 3,  # frames that a block's depthwise convolution sees; odd
        stacks: int = 4,  # repetitions of the stack of blocks
        blocks: int = 8,  # blocks of a stack, with dilations 1, 2, 4,
        embedding_dim: int = 256,  # width of the speaker embedding
        speaker_channel: int = 256,  # channels of the speaker encoder's input and first residual block
        speaker_wide_channel: int = 512,  # channels of its second and third residual block
    ) -> None:
        check_sizes("extractor 'spex_plus'", locals())
        super().__init__(input_dim, num_train_spk, embedding_dim)
        self.fusion = ScaleFuser(self.scale_channel, bottleneck_channel)
        self.enroll_fusion = ScaleFuser(self.scale_channel, speaker_channel)
        self.speaker_encoder = ResNetEncoder(speaker_channel, speaker_channel, speaker_wide_channel, embedding_dim)
        self.stacks = nn.ModuleList(
            TCNStack(bottleneck_channel, hidden_channel, kernel_size, blocks, embedding_dim) for _ in range(stacks)
        )
        self.mask_generator = MaskGenerator(bottleneck_channel, self.scale_channel)

    def embed(self, input_aux: Tensor, ilens_aux: Tensor) -> Tensor:
        """Return the speaker embeddings; see :meth:`AbsEmbeddingExtractor.embed`."""
        return self.speaker_encoder(self.enroll_fusion(input_aux.transpose(1, 2)), ilens_aux)

    def extract(self, input: Tensor, ilens: Tensor, embedding: Tensor, num_scales: int = 1) -> Tensor:
        """Return the target's features; see :meth:`AbsEmbeddingExtractor.extract`."""
        features = input.transpose(1, 2)
        valid = valid_frames(ilens, features.shape[-1], features.device)
        x = self.fusion(features)
        for stack in self.stacks:
            x = stack(x, valid, embedding)
        return self.apply_masks(self.mask_generator(x, valid, num_scales), features, valid)
