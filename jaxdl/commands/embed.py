"""``jaxdl embed``."""

import io
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxdl.cli_options import AS_BOOL, Debug, Reading, ReadingOptions, option
from jaxdl.commands.console import check_outside, console, say_notes
from jaxdl.commands.run import without_broken
from jaxdl.data import part_to_predict
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.tasks.examples import load_examples
from jaxdl.validation.probes.embed import embed
from jaxdl.weights.files import check_free, write_bytes
from jaxdl.weights.pretrained import load_pretrained


def embed_command(
    *,
    checkpoint: Annotated[Path, tyro.conf.arg(metavar="CKPT")],
    data: Annotated[str, tyro.conf.arg(metavar="SPEC")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.npz")],
    normalise: Literal["auto", "yes", "no"] = "auto",
    stage: Annotated[str | None, option("STAGE")] = None,
    batch_size: int = 32,
    reading: ReadingOptions = Reading(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Write a vector for each example, for search or other models.

    Args:
      checkpoint: folder of a checkpoint, or hf:OWNER/NAME of published weights; its head does not matter.
      data: a folder (of splits its val/), FILE.npz, a table such as FILE.csv, of texts FILE.txt, or tfds:NAME.
      out: file for the vectors x and what is known of the examples; --data of other commands reads it.
      normalise: bring each vector to unit length; auto does as the weights were published.
      stage: take what flows out of this stage instead of what flows into the head.
      batch_size: examples at a time.
      reading: how the examples are read.
      debug: show the traceback of an error.
    """
    out = check_free(out)
    if out.suffix != ".npz":
        raise InputError(f"'{out}' does not end in .npz; expected a name such as vectors.npz")
    check_outside(out, data)
    network = load_pretrained(checkpoint)
    split = part_to_predict(data, like=network.card)
    source = load_examples(data, labelled=False, split=split, table=reading.table(data), like=network.card)
    say_notes(source)
    source, _ = without_broken(source, reading.skip_broken)
    vectors = embed(network, source, normalise=AS_BOOL[normalise], stage=stage, batch_size=batch_size)
    content = io.BytesIO()
    np.savez(content, x=vectors, **_about(source))
    write_bytes(out, content.getvalue())
    count, width = vectors.shape
    console.print(f"{count:,} vectors of {width} numbers in {out}", soft_wrap=True, highlight=False)


def _about(source: Source) -> dict[str, Any]:
    """What `data.npz` reads beside the vectors, and the names of the examples."""
    targets, held = source.targets(), {name: getattr(source, name) for name in ("groups", "times", "texts", "names")}
    if isinstance(targets, np.ndarray) and targets.ndim <= 2:  # no masks
        held |= {"y": targets, "class_names": source.class_names}
    arrays = {name: np.asarray(value) for name, value in held.items() if value is not None and len(value)}
    return {name: array.astype(str) if array.dtype == object else array for name, array in arrays.items()}
