"""GoogLeNet: Szegedy et al., "Going Deeper with Convolutions" (arXiv:1409.4842).

As torchvision has it: with batch normalisation, 3×3 convolutions where the paper has 5×5, and without the auxiliary
classifiers, which serve training from scratch alone.
"""

from functools import partial

import jax

from jaxdl.models.inception import Branch, Mixed, Stem, Unit, check_width
from jaxdl.models.layers import GlobalAveragePool, Head
from jaxdl.models.pooling import max_pool
from jaxdl.models.staged import Stage, Staged

SMALLEST = 15  # pixels of a side; from fewer nothing is left for the last blocks


def ceil_max_pool(x: jax.Array, size: int = 3) -> jax.Array:
    """Over windows of ``size × size`` with stride 2; what is left over at the end is a window too (``ceil_mode``)."""
    missing = [(-(-(length - size) // 2)) * 2 + size - length for length in x.shape[1:3]]
    return max_pool(x, size, 2, tuple((0, extra) for extra in missing))


def same_max_pool(x: jax.Array) -> jax.Array:
    """Over 3×3 windows with stride 1, as large as the image."""
    return max_pool(x, 3, 1, ((1, 1), (1, 1)))


def _block(one: int, reduce_three: int, three: int, reduce_five: int, five: int, projection: int) -> tuple[Branch, ...]:
    """Figure 2b, its channels as table 1 lists them."""
    return (
        (Unit("branch1", one),),
        (Unit("branch2_1", reduce_three), Unit("branch2_2", three, 3)),
        (Unit("branch3_1", reduce_five), Unit("branch3_2", five, 3)),
        (same_max_pool, Unit("branch4", projection)),
    )


STEM: Branch = (
    Unit("conv1", 64, 7, 2),
    ceil_max_pool,
    Unit("conv2", 64),
    Unit("conv3", 192, 3),
    ceil_max_pool,
)
INCEPTION: dict[str, tuple[Branch, ...]] = {
    "inception3a": _block(64, 96, 128, 16, 32, 32),
    "inception3b": _block(128, 128, 192, 32, 96, 64),
    "inception4a": _block(192, 96, 208, 16, 48, 64),
    "inception4b": _block(160, 112, 224, 24, 64, 64),
    "inception4c": _block(128, 128, 256, 24, 64, 64),
    "inception4d": _block(112, 144, 288, 32, 64, 64),
    "inception4e": _block(256, 160, 320, 32, 128, 128),
    "inception5a": _block(256, 160, 320, 32, 128, 128),
    "inception5b": _block(384, 192, 384, 48, 128, 128),
}
BEFORE = {"inception4a": ceil_max_pool, "inception5a": partial(ceil_max_pool, size=2)}


class GoogLeNet(Staged):
    """Stages ``stem, inception3a, 3b, 4a, …, 4e, 5a, 5b, pool, head``.

    Attributes:
      width: factor on the channels of every layer.
      dropout: of the features, in training.
      transform_input: images are normalised with ImageNet's mean and standard deviation, and turned at the entrance
        into what the published weights were trained on: mean and standard deviation 0.5 (torchvision's option).
    """

    width: float = 1.0
    dropout: float = 0.2
    transform_input: bool = False

    def stages(self) -> tuple[Stage, ...]:
        check_width("googlenet", self.width)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        options = dict(family="googlenet", smallest=SMALLEST, transform_input=self.transform_input)
        blocks = tuple(
            (name, partial(Mixed, branches, self.width, before=BEFORE.get(name), **dtypes))
            for name, branches in INCEPTION.items()
        )
        return (
            ("stem", partial(Stem, (STEM,), self.width, **options, **dtypes)),
            *blocks,
            ("pool", GlobalAveragePool),
            ("head", partial(Head, self.num_outputs, self.dropout, **dtypes)),
        )
