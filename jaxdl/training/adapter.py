"""The adapter of a plan: what is added to layers whose own parameters stay as they are."""

import dataclasses
from typing import Self

from jaxdl.errors import InputError, nearest
from jaxdl.models.staged import HEAD

LORA = "lora"
EXAMPLES = "for example lora:8, or lora:8:stage2,stage3 for some stages or layers alone"


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Low-rank additions to dense and convolution layers (LoRA; Hu et al. 2021, arXiv:2106.09685).

    Attributes:
      rank: of the additions, at least 1.
      layers: stages, or patterns of layers such as ``stage2/*/conv1``; none for all stages but the head that are not
        frozen.

    Raises:
      InputError: for a rank below 1, or a layer that has no name or is of the head.
    """

    rank: int
    layers: tuple[str, ...] = ()

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"the rank is {self.rank}; expected a whole number of at least 1")
        for layer in self.layers:
            if not layer:
                raise InputError("a stage or layer has no name; expected names with one comma between them")
            if layer.split("/")[0] == HEAD:
                raise InputError(
                    f"'{layer}' cannot have an addition: the head is always trained whole; leave it out, or name other "
                    "stages"
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``lora:RANK`` or ``lora:RANK:LAYER,LAYER``.

        Raises:
          InputError: naming the text, for what is none of these.
        """
        kind, *parts = (part.strip() for part in text.split(":"))
        if kind != LORA:
            hint = nearest(kind.lower(), [LORA])
            raise InputError(f"adapter '{text}' is of an unknown kind; expected {EXAMPLES}.{hint}")
        if len(parts) not in (1, 2):
            raise InputError(f"adapter '{text}' is not lora:RANK or lora:RANK:LAYER,LAYER; expected {EXAMPLES}")
        rank, *named = parts
        if not (rank.isascii() and rank.isdigit()):
            raise InputError(f"adapter '{text}' has the rank '{rank}'; expected a whole number, {EXAMPLES}")
        layers = tuple(layer.strip() for layer in named[0].split(",")) if named else ()
        try:
            return cls(int(rank), layers)
        except InputError as error:
            raise InputError(f"adapter '{text}': {error}; {EXAMPLES}") from None
