"""The tour on a user's own photographs, from a checkpoint of theirs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxdl.data.class_folders import splits_of
from jaxdl.data.folder import folder
from jaxdl.data.image_file import printable
from jaxdl.data.source import Source
from jaxdl.demo.story import FOLDS, SCRATCH, Material, Say, Stopwatch
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.training.plan import BODY, Plan
from jaxdl.training.transfer import hold_out
from jaxdl.validation.leakage.checks import check_validation
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.recommend.methods import Method, last_frozen
from jaxdl.weights.checkpoint import Checkpoint
from jaxdl.weights.pretrained import load_pretrained

EPOCHS = 10
HELD_OUT = 0.25  # share of the photographs that no fold sees, where there is no val/
CHEAP = 64  # pixels of a side up to which a network is also trained from scratch

LAST_STAGES = "last stages"


@dataclass(frozen=True, eq=False)
class PhotoTour:
    """What ``jaxdl demo --photos`` does; see `photo_tour`.

    Attributes:
      parent: the pretrained network.
      labelled: photographs with classes, on which the methods are cross-validated.
      unseen: others, which no fold sees.
      methods: by name; all but ``"from scratch"`` start from `parent`.
      left_out: methods that are not tried, with the reasons.
      folds: of the cross-validations.
    """

    parent: Checkpoint
    labelled: Source
    unseen: Source
    methods: Mapping[str, Method]
    left_out: Mapping[str, str]
    folds: int = FOLDS

    def prepare(self, out: Path, clock: Stopwatch, say: Say) -> Material:
        """There is nothing left to do."""
        name, source = describe(self.parent.model)[0], self.parent.card.source or {}
        start = self.parent.path or source.get("file") or "a checkpoint that was not saved"
        task = f"{len(self.labelled.class_names)} classes of {self.labelled.name}"
        without = "".join(f" {method} was left out: {why}." for method, why in self.left_out.items())
        return Material(
            self.parent,
            self.labelled,
            self.unseen,
            shown="photographs",
            lead=f"{name} from {start}, transferred to the {task}",
            title=f"Transfer of {name} to {self.labelled.name}",
            intro=f"{name} started from {start}. The new task has {len(self.labelled)} labelled photographs of the "
            f"{task}.{without}",
            left_out=self.left_out,
        )


def photo_methods(parent: Checkpoint, epochs: int = EPOCHS) -> dict[str, Method]:
    """Ways of using a network that was pretrained on photographs, the cheapest first.

    Its body is tuned as it was trained, by SGD with momentum, after an epoch of warm-up because the head is random.

    Args:
      parent: the network; one without an inner stage to freeze through has no ``"last stages"``.
      epochs: of the ways that train more than the head.
    """
    tuned = dict(epochs=epochs, optimizer="sgd", learning_rate=0.01, warmup_epochs=1, weight_decay=5e-4)
    inner = last_frozen(parent)
    return {
        "logistic head": Probing(heads=("logistic",)),
        "frozen features": Plan(epochs=6 * epochs, learning_rate=1e-2, freeze_through=BODY),
        **({} if inner is None else {LAST_STAGES: Plan(freeze_through=inner, **tuned)}),
        "full fine-tuning": Plan(**tuned),
        SCRATCH: Plan(epochs=epochs, learning_rate=3e-3, warmup_epochs=1, weight_decay=5e-4),
    }


def photo_tour(
    photos: str | Path,
    init: str | Path,
    *,
    epochs: int = EPOCHS,
    folds: int = FOLDS,
    allow: Iterable[str] = (),
) -> PhotoTour:
    """The story of a folder of photographs.

    Args:
      photos: a folder of class folders, or one with ``train/`` and ``val/``. Without ``val/`` a quarter of each class
        is held out.
      init: folder of a checkpoint for images, or ``hf:OWNER/NAME``.
      epochs: of the ways that train more than the head.
      folds: of the cross-validations.
      allow: leaks to go on with, see `check_validation`.

    Raises:
      InputError: if either cannot be read, they do not go together, a class has too few photographs, or one of those
        held out is a copy of another.
    """
    labelled, unseen = _divided(Path(photos).expanduser(), folds)
    parent = load_pretrained(init)
    parent.card.check_trained(f"'{init}'")
    parent.card.preprocessing.check(labelled)
    check_validation(parent, labelled, unseen, allow=allow)
    methods, left_out = photo_methods(parent, epochs), {}
    if LAST_STAGES not in methods:
        left_out[LAST_STAGES] = f"the body of {describe(parent.model)[0]} is a single stage"
    height, width, _ = parent.card.preprocessing.input_shape
    if max(height, width) > CHEAP:
        del methods[SCRATCH]
        left_out[SCRATCH] = (
            f"at {height} × {width} pixels it needs many more epochs (jaxdl cross-validate --model trains so)"
        )
    return PhotoTour(parent, labelled, unseen, methods, left_out, folds)


def _divided(photos: Path, folds: int) -> tuple[Source, Source]:
    """Those to learn from, with enough of each class for the folds, and those that no fold sees."""
    splits = splits_of(photos) if photos.is_dir() else ()
    whole = folder(photos, "all" if splits else None)  # where a class has two names this says so
    if len(splits) == 2:
        labelled, unseen = folder(photos, "train"), folder(photos, "val")
        _check_enough(labelled, folds)
        if len(unseen) < 2:
            raise InputError(
                f"'{printable(unseen.name)}' has a single photograph; the demo needs at least 2 there: add some, or "
                "move val/ elsewhere"
            )
        return labelled, unseen
    _check_enough(whole, int(np.ceil(folds / (1 - HELD_OUT))) + 1)  # one more: shares of a class are rounded
    return hold_out(whole, HELD_OUT, seed=0)


def _check_enough(source: Source, least: int) -> None:
    counts = np.bincount(source.targets(), minlength=len(source.class_names))
    if len(counts) < 2:
        raise InputError(f"'{source.name}' has a single class folder ({source.class_names[0]}); the demo needs two")
    few = int(counts.argmin())
    if counts[few] < least:
        raise InputError(
            f"the class '{source.class_names[few]}' of '{printable(source.name)}' has {counts[few]} photographs; the "
            f"demo needs {least} of each class: add some, or move the folder elsewhere"
        )
