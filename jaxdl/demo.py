"""The tour on the embedded data: transfer from five digits to five others, and how far to trust the number."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.builtin import digits
from jaxdl.data.source import Source, subset
from jaxdl.models import create
from jaxdl.models.staged import Staged
from jaxdl.report.page import write_page
from jaxdl.report.table import results_table
from jaxdl.training.plan import Plan
from jaxdl.training.predict import predict
from jaxdl.training.transfer import finetune, pretrain
from jaxdl.validation.crossval import cross_validate
from jaxdl.validation.result import Result
from jaxdl.weights.checkpoint import Checkpoint, environment, restore, save
from jaxdl.weights.files import check_free

SHOTS, FOLDS = 30, 5
SUMMARY = "summary.json"
KIND = "jaxdl demo"  # in the summary: says that a folder was made by the demo, and may be replaced

PRETRAIN = Plan(epochs=12, learning_rate=2e-3)
# One plan for each way of using the pretrained network. A fresh head on fixed features takes a high learning rate; a
# network that is to be kept, a low one.
PLANS: dict[str, Plan] = {
    "from scratch": Plan(epochs=30, learning_rate=2e-3),
    "frozen features": Plan(epochs=60, learning_rate=2e-2, freeze_through="body"),
    "partial fine-tuning": Plan(epochs=30, learning_rate=2e-3, freeze_through="conv1"),
    "full fine-tuning": Plan(epochs=30, learning_rate=1e-3, stage_lr={"head": 3.0}),
}


@dataclass(frozen=True, eq=False)
class Tour:
    """What the demo does.

    Attributes:
      model: is pretrained on the digits 0 to 4; a new one like it is trained from scratch.
      pretraining: its plan.
      plans: by the method's name; all but ``"from scratch"`` start from the pretrained network.
      shots: labelled images of each of the digits 5 to 9.
      folds: of the cross-validations.
    """

    model: Staged = field(default_factory=lambda: create("cnn", num_outputs=5))
    pretraining: Plan = PRETRAIN
    plans: Mapping[str, Plan] = field(default_factory=lambda: PLANS)
    shots: int = SHOTS
    folds: int = FOLDS


@dataclass
class Stopwatch:
    """Seconds by part, in order."""

    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - begin


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo found.

    Attributes:
      results: the cross-validation of each method, on the labelled examples.
      truth: accuracy of each method, refitted on all of these, on examples that no fold has seen.
      best: the method with the highest mean over folds; of equal ones that with the smallest loss.
      checkpoint: of that method, refitted.
      seconds: by part.
      labelled, unseen: the examples.
    """

    results: Mapping[str, Result]
    truth: Mapping[str, float]
    best: str
    checkpoint: Checkpoint
    seconds: Mapping[str, float]
    labelled: Source
    unseen: Source

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = {
            name: {
                "mean": r.mean,
                "std": r.std,
                "truth": self.truth[name],
                "seconds": r.seconds,
                "fold_strategy": dict(r.fold_strategy),
            }
            for name, r in self.results.items()
        }
        return {
            "kind": KIND,
            "finished": True,
            "labelled": len(self.labelled),
            "unseen": len(self.unseen),
            "methods": rows,
            "best": self.best,
            "seconds": dict(self.seconds),
            "environment": environment(),
        }


def few_shots(source: Source, shots: int, seed: int) -> tuple[Source, Source]:
    """`shots` random examples of each class, and all the others."""
    random = np.random.default_rng(seed)
    targets = source.targets()
    places = [random.permutation(np.flatnonzero(targets == c)) for c in range(len(source.class_names))]
    chosen = np.sort(np.concatenate([p[:shots] for p in places]))
    return subset(source, chosen), subset(source, np.setdiff1d(np.arange(len(source)), chosen))


def demo(
    out: str | Path = "jaxdl-demo", tour: Tour | None = None, *, say: Callable[[str], None] = lambda text: None
) -> Demo:
    """Runs the tour and writes ``report.html``, ``summary.json``, the runs and two checkpoints to `out`.

    Args:
      out: a new folder, or one that an earlier demo made, whose files are replaced.
      tour: by default that of ``jaxdl demo``.
      say: is given a line on what is being done.

    Raises:
      InputError: if `out` holds something else.
    """
    out = _make_room(Path(out).expanduser().absolute())
    clock, tour = Stopwatch(), tour or Tour()

    say("pretrain a small CNN on the digits 0 to 4")
    with clock.measure("pretrain"):
        source = digits(range(5))
        parent = pretrain(tour.model, source, tour.pretraining)
    with clock.measure("save and restore"):
        parent = restore(save(parent, out / "pretrained"))

    labelled, unseen = few_shots(digits(range(5, 10)), tour.shots, seed=0)
    results, refitted, truth = {}, {}, {}
    for method, plan in tour.plans.items():
        init = parent.model if method == "from scratch" else parent
        say(f"{method}: {tour.folds} folds of {len(labelled)} images of the digits 5 to 9")
        with clock.measure(f"cross-validate {method}"):
            results[method] = cross_validate(init, labelled, plan, folds=tour.folds)
            results[method].save(out / "runs" / method.replace(" ", "-"))
        say(f"{method}: refit on all {len(labelled)}, score on {len(unseen)} unseen images")
        with clock.measure("refit and score"):
            refitted[method] = finetune(init, labelled, plan)
            truth[method] = predict(refitted[method], unseen).accuracy
    best = next(row["method"] for row in results_table(results) if row["best"])
    save(refitted[best], out / "best")

    say("draw the report")
    with clock.measure("report"):
        intro = (
            f"A small CNN was pretrained on {len(source)} images of the digits 0 to 4. The new task has {tour.shots} "
            "labelled images of each of the digits 5 to 9. Each method was cross-validated on these alone, then "
            f"refitted on all of them and scored on {len(unseen)} images that no fold has seen: the truth that the "
            "estimate can be compared with."
        )
        title = "Transfer from the digits 0 to 4 to the digits 5 to 9"
        write_page(out / "report.html", title, results, source=labelled, intro=intro, truth=truth)
    found = Demo(results, truth, best, refitted[best], clock.parts, labelled, unseen)
    _write_summary(out, found.as_dict())
    return found


def _make_room(out: Path) -> Path:
    """`out`, free to be written to; of an earlier demo there, the demo's own files are removed."""
    if _is_demo(out):
        for name in ("pretrained", "best", "runs"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "report.html").unlink(missing_ok=True)
    else:
        check_free(out).mkdir(parents=True, exist_ok=True)
    _write_summary(out, {"kind": KIND, "finished": False})
    return out


def _is_demo(path: Path) -> bool:
    try:
        return json.loads((path / SUMMARY).read_text()).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def _write_summary(out: Path, content: Mapping[str, Any]) -> None:
    (out / SUMMARY).write_text(json.dumps(content, indent=1) + "\n")
