"""Sections on held-out masks: class by class, and images with what was predicted for their pixels."""

from collections.abc import Sequence

import numpy as np

from jaxdl.data.masks import VOID
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.diagrams import draw_intervals
from jaxdl.report.examples import name_of
from jaxdl.report.markup import Section, escaped, in_scroll, is_picture, legend, make_table, note, picture_uri
from jaxdl.report.predictions import first_places, most_confused
from jaxdl.report.units import measure, percent
from jaxdl.tasks.metric import SHARE, Metric
from jaxdl.tasks.segmentation import of_class, palette
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.intervals import interval

IMAGES = 6  # in each of the two lists
CONFUSED = 5  # pairs of classes that are named
BLEND = 0.6  # of the class's colour over the image
WRONG = np.array([230, 97, 0])  # orange, as what is wrong is on all pages
IOU = Metric("IoU", **SHARE)
TITLE = "Class by class"


def pixel_confusion(result: Result) -> np.ndarray:
    """``int64[classes, classes]``: pixels of each true class (rows) by what they are predicted to be; void left out."""
    classes, total = len(result.asked.names), np.zeros(256 * 256, np.int64)
    for said, target in zip(result.predicted, result.out_of_fold.target, strict=True):
        known = target != VOID
        total += np.bincount(target[known].astype(np.int64) * 256 + said[known], minlength=256 * 256)
    return total.reshape(256, 256)[:classes, :classes]


def show_pixel_classes(result: Result) -> Section:
    """Pixels, IoU with its interval, Dice, precision and recall of each class; which are absent, and which confused."""
    names, record, counts = result.asked.names, result.record, pixel_confusion(result)
    true, said, hits = counts.sum(1), counts.sum(0), np.diagonal(counts)
    lines, drawn = [], []
    for place, name in enumerate(names):
        iou, dice = of_class(place, name)
        score, ends = result.sample(iou).pooled_score, interval(result, metric=iou)
        lines.append(
            [
                escaped(name),
                percent(true[place] / max(true.sum(), 1)),
                str(int((record["targets"][:, place] > 0).sum())),
                _share(score),
                "–" if ends is None else f"{measure(IOU, ends.low)} to {measure(IOU, ends.high)}",
                _share(result.sample(dice).pooled_score),
                _share(hits[place] / said[place] if said[place] else np.nan),
                _share(hits[place] / true[place] if true[place] else np.nan),
            ]
        )
        if np.isfinite(score):
            drawn.append((name, score, ends and (ends.low, ends.high)))
    picture = draw_intervals("IoU", "class", drawn)
    heads = ["class", "of all pixels", "in examples", "IoU", "95 % interval", "Dice", "precision", "recall"]
    table = in_scroll(make_table(heads, lines, "numbers"), TITLE)
    absent = [name for name, count in zip(names, true, strict=True) if not count]
    missing = f"<p>No held-out pixel is of: {escaped(', '.join(absent))}.</p>" if absent else ""
    void = sum(int((target == VOID).sum()) for target in result.out_of_fold.target)
    told = (
        "All numbers come from one confusion matrix of the pixels of all held-out images; void pixels "
        f"({percent(void / result.out_of_fold.target.size)} of all; of tiles also those that an earlier tile has) are "
        "left out. An example is an image, or a tile of one. IoU: pixels of the class that are "
        "predicted to be, divided by those that are or are predicted to be. Dice: twice the former, divided by the sum "
        "of both numbers. The intervals are over examples, or over groups where there are any (all "
        "tiles of an image are one), never over pixels: "
        "neighbouring pixels are no independent examples. – stands where nothing is of the class or predicted to be."
    )
    return Section(TITLE, f"{picture}{table}{missing}{_confused(names, counts)}{note(told)}")


def _share(value: float) -> str:
    return measure(IOU, value if np.isfinite(value) else None)


def _confused(names: Sequence[str], counts: np.ndarray) -> str:
    """The pairs of classes with the most pixels taken for the other, in a sentence."""
    pairs = most_confused(counts, CONFUSED)
    if not pairs:
        return ""
    said = "; ".join(
        f"{names[row]} for {names[column]} ({percent(counts[row, column] / counts[row].sum())} of its pixels)"
        for row, column in pairs
    )
    return f"<p>{escaped(f'Most pixels are lost by taking {said}.')}</p>"


def show_overlays(method: str, result: Result, source: Source | None) -> Section:
    """The images with the largest share of wrong pixels, and those of whose pixels the networks are least sure."""
    if source is None or not is_picture(source[0]["x"]):
        raise InputError("The images are not available, so that no predictions can be drawn on them.")
    held, record = result.out_of_fold, result.record
    error = 1 - record["hits"].sum(1) / np.maximum(record["pixels"], 1)
    known = record["pixels"] > 0
    worst = first_places(held, -error, known & (error > 0), IMAGES)
    doubtful = first_places(held, record["confidence"], known, IMAGES)
    colours = palette(VOID + 1)
    used = sorted({int(i) for place in (*worst, *doubtful) for i in np.unique(held.target[place]) if i != VOID})
    keys = legend(*(("■", f"rgb{tuple(colours[i].tolist())}", escaped(result.asked.names[i])) for i in used))

    def listed(places: np.ndarray) -> str:
        return "".join(_figure(result, source, int(place), float(error[place]), colours) for place in places)

    said = (
        f"Held-out predictions of “{escaped(method)}”: the image, the true classes, the predicted ones, and in orange "
        "the pixels that are wrong. Void pixels have no colour."
    )
    body = f"<p>{said}</p>{keys}<h3>Largest share of wrong pixels</h3>"
    body += f'<div class="maps four">{listed(worst)}</div>' if len(worst) else note("No pixel is wrong.")
    body += f'<h3>Least certain</h3><div class="maps four">{listed(doubtful)}</div>'
    return Section("Predictions on images", body)


def _figure(result: Result, source: Source, place: int, error: float, colours: np.ndarray) -> str:
    held = result.out_of_fold
    index, target, said = int(held.index[place]), held.target[place], result.predicted[place]
    image = np.broadcast_to(source[index]["x"], (*target.shape, 3))
    wrong = (target != VOID) & (said != target)
    sure = result.record["confidence"][place]
    pictures = {
        "image": image,
        "true": _blended(image, colours[target], target != VOID),
        "predicted": _blended(image, colours[said], np.ones(said.shape, bool)),
        "wrong": _blended(image, WRONG, wrong),
    }
    name = name_of(index, source.names)
    caption = f"{percent(error)} of the pixels wrong, mean confidence {percent(sure)}"
    cells = ""
    for what, picture in pictures.items():
        uri, kind = picture_uri(picture)
        cells += f'<div><img class="{kind}" src="{uri}" alt="{escaped(f"{name}: {what}")}"><small>{what}</small></div>'
    below = f"<figcaption>{caption}<small>{escaped(name)}</small></figcaption>"
    return f'<figure><div class="row">{cells}</div>{below}</figure>'


def _blended(image: np.ndarray, colour: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The image in grey, with `colour` over it where it is wanted."""
    grey = image.mean(-1, keepdims=True).repeat(3, -1)
    return np.where(where[..., None], BLEND * colour + (1 - BLEND) * grey, grey).astype(np.uint8)
