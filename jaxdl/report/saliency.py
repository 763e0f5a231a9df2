"""The section on where the networks looked, with a map over each example."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.source import Source, subset
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.report.examples import name_of
from jaxdl.report.explain import Method, explain, explains_with
from jaxdl.report.markup import Section, escaped, is_picture
from jaxdl.report.network import SAMPLE, SAMPLE_NUMBERS, input_size, spread
from jaxdl.report.predictions import check_classes, most_certain_right, most_wrong
from jaxdl.report.run import Run
from jaxdl.tasks import Task
from jaxdl.training.predict import predict
from jaxdl.validation.result import OutOfFold
from jaxdl.weights.checkpoint import Checkpoint

EACH = 4  # right ones, and wrong ones
SIDE = 160  # pixels of a picture, about
PAPERS = {
    "Grad-CAM": "Grad-CAM (Selvaraju et al. 2017): where in the last feature map more activation would raise the logit "
    "of the class, mean gradient times activation, negative parts cut, laid smoothly over the picture.",
    "attention roll-out": "Attention roll-out (Abnar & Zuidema 2020): how much of each patch reaches the output if "
    "attention alone moved it, half of each layer's being the residual connection. It is the same for every class.",
}
CAUTION = (
    "Bright is much, dark little; each map has its own scale. A map shows where evidence came from, not what it was, "
    "and not that the network is right for the right reason."
)
Row = Mapping[str, Any]  # of an example, as of `most_wrong`
# the picture as the network sees it, the map for the predicted class, and for the true one
Explained = tuple[np.ndarray, np.ndarray, np.ndarray | None]
T = TypeVar("T")


def show_explained(run: Run) -> Section:
    """Some right and some wrong examples with the map of the network that did not train on them.

    Raises:
      InputError: if networks, examples or a method that suits them are not there.
    """
    _, network = run.network()
    source = explained_source(run)
    method = _method(network)

    def explained(network: Checkpoint, rows: Sequence[Row]) -> list[Explained]:
        return _explain(network, source, rows, method)

    shown = {
        kind: "".join(
            _figure(run, source, row, *made)
            for row, made in zip(chosen, by_its_network(run, chosen, explained), strict=True)
        )
        for kind, chosen in choose_examples(run, source).items()
        if chosen
    }
    wide = {"Wrong": " three"} if method == "Grad-CAM" else {}
    blocks = "".join(
        f'<h3>{kind}</h3><div class="maps{wide.get(kind, "")}">{body}</div>' for kind, body in shown.items()
    )
    said = f"Each example is explained {by_whom(run)} {PAPERS[method]}"
    return Section("Where it looked", f"<p>{escaped(said)}</p>{blocks}<p class='note'>{CAUTION}</p>")


def explained_source(run: Run) -> Source:
    """The examples that are explained. Raises InputError if they are not there."""
    source = run.fresh or run.source
    if source is None:
        raise InputError(run.missing["source"])
    return source


def by_whom(run: Run) -> str:
    """The end of a sentence on which network explains an example, and whether it may know it."""
    if run.result:
        return "by the network of the fold that did not train on it."
    return "by this network." + ("" if run.fresh else " It may have been trained on it.")


def caption_of(run: Run, source: Source, row: Row) -> str:
    """HTML that says whether an example is right, how sure the network is of its answer, and which example it is."""
    label, predicted = (run.task.names[row[key]] for key in ("label", "predicted"))
    right = row["label"] == row["predicted"]
    verdict = f"predicted {label}, which is right" if right else f"true {label}, predicted {predicted}"
    name = name_of(row["index"], source.names) + (f", fold {row['fold']}" if run.result else "")
    return f"{escaped(verdict)} <span>(p = {row['probability']:.2f})</span><small>{escaped(name)}</small>"


def by_its_network(
    run: Run, rows: Sequence[Row], explained: Callable[[Checkpoint, Sequence[Row]], Sequence[T]]
) -> list[T]:
    """What `explained` makes of each of `rows` by the network of its fold, in their order."""
    made: dict[int, T] = {}
    for fold in sorted({row["fold"] for row in rows}):
        places = [place for place, row in enumerate(rows) if row["fold"] == fold]
        made |= zip(places, explained(run.networks[fold], [rows[place] for place in places]), strict=True)
    return [made[place] for place in range(len(rows))]


def _method(network: Checkpoint) -> Method:
    """The one that suits a network. Raises InputError if none does, or its examples are no pictures."""
    spec = network.card.preprocessing.stored_spec()
    if not is_picture(spec):
        raise InputError("The examples are not pictures, so no map can be drawn over them.")
    method = explains_with(network.model, network.variables, spec.shape)
    if method is None:
        raise InputError(
            f"The model {describe(network.model)[0]} has neither feature maps nor attention to say where it looks."
        )
    return method


def choose_examples(run: Run, source: Source) -> dict[str, list[dict[str, Any]]]:
    """Rows as of `most_wrong`: the most certain right example of some classes, and the most confidently wrong ones."""
    if run.result:
        held, known = run.result.out_of_fold, np.isin(run.result.out_of_fold.fold, list(run.networks))
    else:
        held, known = _predicted(run.networks[0], run.task, source)
    held = held.take(np.flatnonzero(known))
    check_classes(held, run.task)
    return {"Right": most_certain_right(held, run.task, EACH), "Wrong": most_wrong(held, run.task, EACH)}


def _predicted(network: Checkpoint, task: Task, source: Source) -> tuple[OutOfFold, np.ndarray]:
    """What a network that has no folds says of some of the examples, and of which the truth is known."""
    index = spread(np.arange(len(source)), int(np.clip(4 * SAMPLE_NUMBERS // input_size(network), SAMPLE, 4 * SAMPLE)))
    found = predict(network, subset(source, index))
    if found.targets is None:
        raise InputError("The examples have no targets of the kind that the network answers with.")
    return OutOfFold(index, np.zeros(len(index), int), found.targets, found.outputs), task.known(found.targets)


def _explain(network: Checkpoint, source: Source, rows: Sequence[Row], method: Method) -> list[Explained]:
    by_class = method == "Grad-CAM"
    x = network.card.preprocessing.load(subset(source, [row["index"] for row in rows]))
    said = _maps(network, x, [row["predicted"] for row in rows])
    true = _maps(network, x, [row["label"] for row in rows]) if by_class else said
    return [
        (image, one, other if by_class and row["label"] != row["predicted"] else None)
        for row, image, one, other in zip(rows, x, said, true, strict=True)
    ]


def _maps(network: Checkpoint, x: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """``[n, rows, columns]``, computed for `EACH` examples at a time, so that one program serves all folds."""
    filled = np.resize(np.arange(len(x)), EACH)
    variables = jax.tree.map(jnp.asarray, network.variables)
    inputs = network.card.preprocessing.network_input(x[filled])
    return np.asarray(explain(network.model, variables, inputs, np.asarray(classes)[filled]))[: len(x)]


def _figure(run: Run, source: Source, row: Row, image: np.ndarray, said: Any, true: Any) -> str:
    name = name_of(row["index"], source.names)
    label, predicted = (run.task.names[row[key]] for key in ("label", "predicted"))
    pictures = [
        (image_uri(image), f"Example {name}", "input"),
        (
            image_uri(image, said),
            f"Map of example {name}, predicted {predicted}: {place_of(said)}",
            "where it looked" if true is None else f"for {predicted}",
        ),
    ]
    if true is not None:
        told = f"Map of example {name}, true {label}: {place_of(true)}"
        pictures.append((image_uri(image, true), told, f"for {label}"))
    parts = "".join(
        f'<div><img src="{uri}" alt="{escaped(alt)}"><small>{escaped(below)}</small></div>'
        for uri, alt, below in pictures
    )
    caption = caption_of(run, source, row)
    return f'<figure><div class="row">{parts}</div><figcaption>{caption}</figcaption></figure>'


def place_of(heat: np.ndarray) -> str:
    """In words where the largest value of ``heat[rows, columns]`` is, for those who do not see it."""
    if not np.ptp(heat) > 0:
        return "the same everywhere"
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    tall = ("top", "middle", "bottom")[int(3 * row / heat.shape[0])]
    wide = ("left", "centre", "right")[int(3 * column / heat.shape[1])]
    return f"strongest at the {tall} {wide}"


def image_uri(image: np.ndarray, heat: np.ndarray | None = None) -> str:
    """A data URI of ``uint8[height, width, 1 or 3]``, brought to `SIDE` pixels, under ``heat[rows, columns]`` if given.

    The map is stretched smoothly over the picture, coloured from its least value to its largest, and laid on with the
    picture in grey, so that colour means the map alone.
    """
    from matplotlib import colormaps
    from PIL import Image

    height, width = image.shape[:2]
    factor = SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    way = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).resize(size, way)
    if heat is not None:
        low = float(heat.min()) if heat.min() < heat.max() else 0.0
        unit = (heat - low) / max(float(heat.max()) - low, 1e-12)
        smooth = Image.fromarray(np.float32(unit)).resize(size, Image.Resampling.BILINEAR)
        colour = colormaps["inferno"](np.asarray(smooth).clip(0, 1))[..., :3]
        grey = np.asarray(picture.convert("L"), np.float64)[..., None] / 255
        picture = Image.fromarray(np.uint8(np.round(255 * (0.35 * grey + 0.65 * colour))))
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
