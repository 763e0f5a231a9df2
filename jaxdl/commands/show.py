"""``jaxdl show``."""

from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxdl import data as sources
from jaxdl.cli_options import Debug, Flag, SizeOption, Spec, option
from jaxdl.commands.console import check_outside, console, errors, say_notes
from jaxdl.data.augment import augment as augment_batch
from jaxdl.data.augment import make_augmentation
from jaxdl.data.preprocessing import ImagePreprocessing, choose_preprocessing, to_unit
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.markup import check_picture
from jaxdl.report.show import FORMATS, mixture, write_show
from jaxdl.tasks import fitting_task
from jaxdl.tasks.examples import load_examples

IMAGE_SIZE = 224  # pixels, where images differ in size and nothing else says
MOST = 100  # images in a picture


def show_command(
    *,
    data: Spec,
    augment: Annotated[tuple[str, ...], option("NAME ...")] = ("standard",),
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.png|FILE.svg")] = Path("show.png"),
    count: int = 16,
    image_size: SizeOption = None,
    seed: int = 0,
    skip_broken: Flag = False,
    debug: Debug = False,
) -> None:
    """Draw some images before and after augmentation.

    Args:
      data: digits[:5-9], a folder of class folders (of splits its train/) or images, FILE.npz, FILE.csv, tfds:NAME.
      augment: light, standard or strong, or single ones: crop, flip, colour, randaugment, mixup, cutmix, erasing.
      out: file for the picture; must not exist yet.
      count: how many images, chosen at random.
      image_size: side in pixels that images are resized to; by default their own, or 224 if they differ.
      seed: chooses the images and how they are changed.
      skip_broken: take other images in place of files that cannot be read; these are listed.
      debug: show the traceback of an error.
    """
    chosen, out = make_augmentation(augment), check_picture(out, FORMATS)
    check_outside(out, data)
    if not 1 <= count <= MOST:
        raise InputError(f"the count is {count}; expected 1 to {MOST} images")
    if image_size is not None and image_size < 1:
        raise InputError(f"the image size is {image_size}; expected at least 1 pixel")
    if seed < 0:
        raise InputError(f"the seed is {seed}; expected 0 or more")
    everything = load_examples(data, labelled=False)
    say_notes(everything)
    source = _some(everything, count, seed, skip_broken)
    preprocessing = choose_preprocessing(source, image_size, IMAGE_SIZE)
    if not isinstance(preprocessing, ImagePreprocessing):
        raise InputError(f"{source.name} holds {preprocessing.describe()}; show is for uint8 images")
    before = to_unit(jnp.asarray(preprocessing.load(source)))
    after = jax.jit(augment_batch, static_argnums=0)(chosen, before, jax.random.key(seed), jnp.ones(len(before)))
    labels = _labels(source)
    mixed = [
        mixture(labels[i], labels[partner], float(share))
        for i, (partner, share) in enumerate(zip(after.partner.tolist(), after.share.tolist(), strict=True))
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    names, done = " ".join(augment) or "none", ", ".join(name for name, _ in chosen.operations) or "nothing is changed"
    path = write_show(
        out,
        np.asarray(before),
        np.asarray(after.images),
        labels,
        mixed,
        title=f"{source.name}, augmented: {names}",
        subtitle=f"{done}; {'×'.join(map(str, preprocessing.input_shape))}, seed {seed}",
    )
    console.print(f"{len(before)} images before and after {names} in {path}", soft_wrap=True)


def _some(source: Source, count: int, seed: int, skipping: bool) -> Source:
    """A random choice, before anything is read or decoded; where `skipping`, of what can be."""
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples; there is nothing to show")
    order = np.random.default_rng(seed).permutation(len(source))
    return sources.subset(source, _readable(source, order, count) if skipping else order[:count])


def _readable(source: Source, order: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of the examples `order` that can be read; the others among them are listed."""
    kept: list[int] = []
    for index in order.tolist():
        try:
            source[index]
        except InputError as error:
            name = source.names[index] if source.names is not None else index
            errors.print(f"skipped {name}: {error.problem}", soft_wrap=True, highlight=False)
        else:
            kept.append(index)
        if len(kept) == count:
            break
    if not kept:
        raise InputError(f"none of the {len(source)} examples of {source.name} can be read; there is nothing to show")
    return np.array(kept, np.int64)


def _labels(source: Source) -> list[str]:
    """The targets in words, or what the examples are called."""
    targets, names = source.targets(), source.class_names
    asked = None if targets is None else fitting_task(targets, names)
    if asked is not None:
        words = asked.of(targets, names).target_words(targets)
        return [f"{word:.4g}" if isinstance(word, float) else str(word) for word in words]
    if source.names is not None:
        return [Path(name).name for name in source.names]
    return [str(i) for i in range(len(source))]
