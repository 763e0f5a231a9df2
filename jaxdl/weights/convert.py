"""Published weights into a checkpoint, and a checkpoint back into the names of other libraries."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.data.preprocessing import (
    PREPROCESSINGS,
    ImagePreprocessing,
    Preprocessing,
    RawPreprocessing,
    TextPreprocessing,
)
from jaxdl.data.preprocessing.tokenizer import TOKENIZER, VOCABULARY, read_tokenizer
from jaxdl.errors import InputError, check_choice
from jaxdl.models import MODELS, create
from jaxdl.models.bert import Bert
from jaxdl.models.initialise import batch_of, init_head
from jaxdl.models.sequence import token_spec
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables, join_variables, nest, walk_shapes
from jaxdl.tasks import task_of
from jaxdl.weights import hub
from jaxdl.weights.adapt import CHANNEL_MODES, reverse_channels, with_channels
from jaxdl.weights.card import Card
from jaxdl.weights.checkpoint import Checkpoint, check_finite
from jaxdl.weights.class_names import class_names
from jaxdl.weights.families import keys_of
from jaxdl.weights.hub_config import CONFIG, Described, read_config
from jaxdl.weights.keys import Renamed, body_mismatches, fill, listed, rename
from jaxdl.weights.networks import find_network
from jaxdl.weights.networks import without_head as without_head_rows
from jaxdl.weights.published import IMAGENET, TORCHVISION, Published, images, published
from jaxdl.weights.read import check_digest, read_weights, sha256_of
from jaxdl.weights.recognise import looks_like

BIAS = "params/head/dense/bias"
UNKNOWN = 2  # outputs of a head that knows nothing, which training replaces


@dataclasses.dataclass(frozen=True, eq=False)
class Converted:
    """What `convert` made.

    Attributes:
      checkpoint: with the network's own head; its card says where the weights are from.
      name: of the model.
      layout: whose names the tensors had.
      dropped: names of the tensors left out, with the reasons.
      notes: what else was chosen or left out, in words.
    """

    checkpoint: Checkpoint
    name: str
    layout: str
    dropped: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class _Taken:
    """A file's network under the names of leaves; `dropped` are names in the file."""

    renamed: Renamed
    layout: str
    dropped: Mapping[str, str]
    note: str


def convert(
    source: str | Path,
    model: str | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    layout: str | None = None,
    names: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    channels: int | None = None,
    channel_mode: str = "sum",
    channel_order: str = "rgb",
    weights: str | None = None,
    without_head: bool = False,
) -> Converted:
    """A checkpoint of published weights. Strict: every tensor and every array of the model is accounted for.

    Args:
      source: a file that `read_weights` reads, a folder laid out as Hugging Face does it, or
        ``hf:OWNER/NAME[@REVISION]``.
      model: name of the model; may be left out where a ``config.json`` beside the weights, or the file's own name as it
        was published, tells it.
      arguments: of the model, where they differ from the name's.
      layout: whose names the tensors have, such as ``"torchvision"``; by default the one that knows most of them.
      names: of the classes; by default as published.
      preprocessing: ``image_size`` and fields of `ImagePreprocessing` that win over the published ones; of a network
        that reads tokens their number, ``length``.
      channels: of the images, if not the network's own; see `adapt.with_channels` for this and `channel_mode`.
      channel_mode: ``"sum"`` or ``"repeat"``.
      channel_order: ``"bgr"`` for a network that was trained on images with blue first; the checkpoint takes ``"rgb"``.
      weights: of a training's checkpoint that holds several networks: ``"ema"`` for the weights averaged over steps
        (the default where there are some), ``"model"`` for those of the last step, or with what their names begin.
      without_head: leave the head out; the checkpoint gets one that knows nothing, which training replaces. So it is
        where a ``config.json`` says that the weights have none.

    Raises:
      InputError: if the source cannot be had or read, holds numbers that are not finite, or is of another model:
        saying which it looks like, or listing what does not fit.
    """
    check_choice("channel_mode", channel_mode, CHANNEL_MODES)
    check_choice("channel_order", channel_order, ("rgb", "bgr"))
    if hub.is_hub(source):
        hub_found = hub.find(str(source))
        path = hub.fetch(str(source), hub_found)
        origin = {"repository": hub_found.repository, "revision": hub_found.revision, "licence": hub_found.licence}
    else:
        path, origin = _in_folder(Path(source).expanduser()), {}
    held = read_weights(path)
    digest = sha256_of(path)
    check_digest(path, digest)
    described = read_config(path.parent) if path.name in hub.WEIGHTS else None
    name = _name(model, described, path, held.tensors, weights)
    row = _published(name, source if origin else path.name)
    like = row or _usual(name)
    if described is not None and described.model != name:
        described = None  # it speaks of another network
    headless = without_head or bool(described and described.headless)
    arguments = {**(row.arguments if row else {}), **(described.arguments if described else {}), **(arguments or {})}
    taken = _take(held.tensors, name, create(name, 1, **arguments), layout, weights, headless)
    leaves, layout = taken.renamed.leaves, taken.layout
    arguments = {**keys_of(name).arguments.get(layout, {}), **arguments}
    network = create(name, int(leaves[BIAS].shape[0]) if BIAS in leaves else UNKNOWN, **arguments)
    class_names = () if headless else _class_names(name, names, described, like, network.num_outputs)
    task = task_of(network, class_names, None if headless or described is None else described.task)
    with _or_another(held.tensors, name, weights):
        if MODELS[name].length:
            carries = () if task is None else task.CARRIES
            prepared: Preprocessing = _tokens(name, network, preprocessing or {}, path.parent, carries)
        else:
            prepared = _preprocessing(name, network, leaves, _said(name, described, like), preprocessing or {})
        variables = _fill(taken.renamed, network, prepared, headless)
    check_finite(walk_shapes(variables), f"'{path}'")
    licences = (origin.get("licence"), described and described.licence, row and row.licence)
    card = Card(
        prepared,
        task,
        source={
            **origin,
            "file": path.name,
            "sha256": digest,
            "layout": layout,
            "licence": next(filter(None, licences), None),
            "published": row and row.source,
            "preprocessing": _said_by(name, described, like),
            "dropped": sorted(taken.dropped),
            "without_head": headless,
            **({"normalise": True} if described and described.normalise else {}),
        },
        targets={} if task is None else dict(task.ELSEWHERE),
    )
    checkpoint = Checkpoint(network, variables, card)
    if channel_order == "bgr":
        checkpoint = reverse_channels(checkpoint)
    if channels is not None:
        checkpoint = with_channels(checkpoint, channels, channel_mode)
    notes = [taken.note] if taken.note else []
    if headless and not without_head:
        notes.append("the weights have no head: the checkpoint gets one that knows nothing, which training replaces")
    if held.beside:
        notes.append(f"left out what is no weights: {', '.join(held.beside)}")
    return Converted(checkpoint, name, layout, taken.dropped, tuple(notes))


def _in_folder(path: Path) -> Path:
    """The file of weights in a folder; a file itself. Raises InputError for a folder that holds none."""
    if not path.is_dir():
        return path
    for name in hub.WEIGHTS:
        if (path / name).is_file():
            return path / name
    held = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
    raise InputError(f"the folder '{path}' holds neither {' nor '.join(hub.WEIGHTS)}, but: {held}")


def _name(
    model: str | None, described: Described | None, path: Path, tensors: Mapping[str, np.ndarray], weights: str | None
) -> str:
    """Which model it is: as asked for, as described, or as the file was published."""
    if model is not None:
        check_choice("model", model, MODELS)
        return model
    if described is not None:
        if described.model is None:
            raise InputError(
                f"the {CONFIG} beside '{path}' describes a '{described.architecture}', which is not a model of jaxdl "
                "(jaxdl models lists them); if one of them fits, name it: --model NAME"
            )
        return described.model
    for name in MODELS:
        if any(row.file == path.name for row in published(name)):
            return name
    if (known := looks_like(tensors, weights)) is None:
        raise InputError(f"which model are the weights '{path}' of? Name it: --model NAME (jaxdl models lists them)")
    raise InputError(f"which model are the weights '{path}' of? They look like {known}: --model {known}")


def _published(name: str, source: str | Path) -> Published | None:
    """What is known of these very weights, if anything."""
    source = str(source).partition("@")[0]
    return next((row for row in published(name) if source in (row.source, row.file)), None)


def _usual(name: str) -> Published | None:
    """What weights are taken for of which nothing is said: torchvision's, or else the first known ones."""
    rows = published(name)
    return next((row for row in rows if row.source.startswith(TORCHVISION)), next(iter(rows), None))


def _take(
    tensors: Mapping[str, np.ndarray],
    name: str,
    network: Staged,
    layout: str | None,
    weights: str | None,
    headless: bool,
) -> _Taken:
    """The tensors under the names of the network's leaves, and whose names they had."""
    keys = keys_of(name)
    if layout is not None:
        check_choice(f"layout of '{name}'", layout, keys.layouts)
    tables = {known: make(network) for known, make in keys.layouts.items() if layout in (None, known)}
    found = find_network(tensors, tables, keys.stem, weights)
    table = tables[found.layout]
    renamed = rename(found.tensors, without_head_rows(table) if headless else table)
    dropped = {**found.dropped, **{found.tensors.names[tensor]: why for tensor, why in renamed.dropped.items()}}
    return _Taken(renamed, found.layout, dropped, found.note)


@contextmanager
def _or_another(tensors: Mapping[str, np.ndarray], name: str, weights: str | None) -> Iterator[None]:
    """Says of weights that do not fit the model called `name` which they look like, where they look like another."""
    try:
        yield
    except InputError as error:
        other = looks_like(tensors, weights)
        if other in (None, name):
            raise
        raise InputError(f"the weights look like {other}, not like {name}: --model {other}") from error


def _fill(renamed: Renamed, network: Staged, prepared: Preprocessing, headless: bool) -> Variables:
    """The variables of the network, every leaf of which is filled once; with `headless` the head's are fresh.

    Raises:
      InputError: listing what does not fit.
    """
    if not headless:
        if BIAS not in renamed.leaves and not body_mismatches(renamed, network, prepared.spec()):
            raise InputError(
                "the weights have no head: they are a network's body alone. Convert them with --without-head (in "
                "Python without_head=True), and train a head on them: jaxdl finetune --init CKPT"
            )
        return fill(renamed, network, prepared.spec())
    if problems := body_mismatches(renamed, network, prepared.spec()):
        raise InputError(f"the weights do not fit the model ({len(problems)} mismatches):{listed(problems)}")
    body = nest(renamed.leaves)
    body = {"params": body["params"], "batch_stats": body.get("batch_stats", {})}
    head = init_head(network, jax.random.key(0), body, batch_of(prepared.spec()))
    return jax.tree.map(np.asarray, join_variables(body, head))


def _preprocessing(
    name: str, network: Staged, leaves: Mapping[str, np.ndarray], said: ImagePreprocessing, given: Mapping[str, Any]
) -> ImagePreprocessing:
    """What is `said` of the weights, except what is `given` and what their own shapes tell better."""
    keys, given = keys_of(name), dict(given)
    fields = ["image_size", *(field.name for field in dataclasses.fields(said) if field.name != "input_shape")]
    if unknown := given.keys() - set(fields):
        raise InputError(f"preprocessing has {', '.join(sorted(unknown))}; expected any of: {', '.join(fields)}")
    height, width, channels = said.input_shape
    stem = leaves.get(keys.stem)
    if stem is not None and stem.ndim == 4 and stem.shape[2] != channels:
        channels = stem.shape[2]
        for statistic in ("mean", "std"):
            given.setdefault(statistic, (float(np.mean(getattr(said, statistic))),) * channels)
    size = given.pop("image_size", None)
    if keys.image_size is not None:
        height = width = side = keys.image_size(network, leaves)
        if size not in (None, side):
            raise InputError(
                f"the weights are of a '{name}' for images of {side} × {side} pixels, not {size}; convert them so, and "
                "give --image-size to the training, which resamples the position embeddings"
            )
    elif size is not None:
        height = width = size
    return dataclasses.replace(said, input_shape=(height, width, channels), **given)


def _tokens(
    name: str, network: Bert, given: Mapping[str, Any], folder: Path, carries: tuple[str, ...]
) -> Preprocessing:
    """Text by the tokenizer in `folder`, or tokens as they are; as many as the model is mostly fed with, or `given`.

    For `carries` see `Task.CARRIES`.

    Raises:
      InputError: for a tokenizer that knows more tokens than the network.
    """
    if unknown := given.keys() - {"length"}:
        raise InputError(f"preprocessing has {', '.join(sorted(unknown))}; expected length: '{name}' reads tokens")
    length = given.get("length", min(MODELS[name].length, network.longest))
    if not any((folder / file).is_file() for file in (TOKENIZER, VOCABULARY)):
        return RawPreprocessing.like(token_spec(length))
    kinds = (kind for kind in PREPROCESSINGS.values() if issubclass(kind, TextPreprocessing))
    kind = next((kind for kind in kinds if carries == kind.CARRIES), TextPreprocessing)
    made = kind(read_tokenizer(folder), length, types=network.types > 1)
    made.check_model(network)
    return made


def _said(name: str, described: Described | None, like: Published | None) -> ImagePreprocessing:
    """The preprocessing as described beside the weights, as published, or of a network trained on ImageNet as most."""
    if described is not None and described.preprocessing is not None:
        return described.preprocessing
    return images(MODELS[name].image_size, 0.875, "bilinear", IMAGENET) if like is None else like.preprocessing


def _said_by(name: str, described: Described | None, like: Published | None) -> str | None:
    """Where the preprocessing is from; None of text."""
    if MODELS[name].length:
        return None
    return CONFIG if described and described.preprocessing else like and like.source


def _class_names(
    name: str, given: Sequence[str] | None, described: Described | None, row: Published | None, outputs: int
) -> tuple[str, ...]:
    if given is not None:
        if len(given) != outputs:
            raise InputError(f"{len(given)} class names for the {outputs} outputs of the network")
        return tuple(given)
    if described is not None and len(described.class_names) == outputs:
        return described.class_names
    if MODELS[name].length:
        return ()
    return class_names(row.class_names if row else "imagenet", outputs)
