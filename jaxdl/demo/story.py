"""A story of transfer: each way of using a pretrained network is cross-validated, then held against the truth."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from jaxdl.data.source import Source
from jaxdl.report.page import write_page
from jaxdl.report.table import results_table
from jaxdl.tasks.metric import percent
from jaxdl.training.execution import Execution
from jaxdl.training.features import DataStore
from jaxdl.training.predict import predict
from jaxdl.validation.recommend.methods import Method, fit_method, score_method
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.unseen import score_on_unseen
from jaxdl.weights.checkpoint import Checkpoint, environment, save
from jaxdl.weights.files import check_free

FOLDS = 5
SCRATCH = "from scratch"  # the method that does not start from the pretrained network
SUMMARY = "summary.json"
KIND = "jaxdl demo"  # in the summary: says that a folder was made by the demo, and may be replaced

Say = Callable[[str], None]


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
class Material:
    """What a story is told with.

    Attributes:
      parent: the pretrained network.
      labelled: the examples of the new task.
      unseen: others of it, which no fold sees.
      shown: what the examples are, in a few words.
      lead: what was pretrained, and what it is transferred to, as the beginning of a sentence.
      title: of the report.
      intro: its first sentences.
      left_out: methods that are not tried, with the reasons.
    """

    parent: Checkpoint
    labelled: Source
    unseen: Source
    shown: str
    lead: str
    title: str
    intro: str
    left_out: Mapping[str, str] = field(default_factory=dict)


class Tour(Protocol):
    """What a demo does; see `digits.DigitsTour` and `photographs.PhotoTour`.

    Attributes:
      methods: by name; all but ``"from scratch"`` start from the pretrained network.
      folds: of the cross-validations.
    """

    @property
    def methods(self) -> Mapping[str, Method]: ...

    @property
    def folds(self) -> int: ...

    def prepare(self, out: Path, clock: Stopwatch, say: Say) -> Material:
        """What is told with; may write to `out`."""
        ...


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo found.

    Attributes:
      results: the cross-validation of each method, on the labelled examples.
      truth: accuracy of each method, refitted on all of these, on examples that no fold has seen.
      reach: of each method ends of the 95 % interval of its `truth`, which these examples estimate.
      gain: by method other than ``"from scratch"``: by how much its `truth` is above that of this one, and ends of the
        paired 95 % interval of the difference; none where nothing was trained from scratch.
      best: the method with the highest mean over folds; of equal ones that with the smallest loss.
      checkpoint: of that method, refitted.
      seconds: by part.
      material: what it was found with.
    """

    results: Mapping[str, Result]
    truth: Mapping[str, float]
    reach: Mapping[str, tuple[float, float]]
    gain: Mapping[str, tuple[float, float, float]]
    best: str
    checkpoint: Checkpoint
    seconds: Mapping[str, float]
    material: Material

    @property
    def labelled(self) -> Source:
        return self.material.labelled

    @property
    def unseen(self) -> Source:
        return self.material.unseen

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = {
            name: {
                "mean": r.mean,
                "std": r.std,
                "truth": self.truth[name],
                "truth_interval": list(self.reach[name]),
                "gain": list(self.gain[name]) if name in self.gain else None,
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


def tell(out: str | Path, tour: Tour, *, allow: Iterable[str] = (), say: Say = lambda text: None) -> Demo:
    """Tells a story and writes ``report.html``, ``summary.json``, the runs and checkpoints to `out`.

    Args:
      out: a new folder, or one that an earlier demo made, whose files are replaced.
      tour: which story.
      allow: leaks to go on with, as of `Execution`.
      say: is given a line on what is being done.

    Raises:
      InputError: if `out` holds something else, or the examples and the network do not go together.
    """
    execution = Execution(progress=False, allow=allow, store=DataStore(batch_size=32))
    out, clock = _make_room(Path(out).expanduser().absolute()), Stopwatch()
    made = tour.prepare(out, clock, say)
    results, refitted, right, reach = {}, {}, {}, {}
    for name, method in tour.methods.items():
        init, how = made.parent, execution
        if name == SCRATCH:
            init, how = made.parent.model, execution.replace(image_size=made.parent.card.preprocessing.input_shape[0])
        say(f"{name}: {tour.folds} folds of {len(made.labelled)} {made.shown}")
        with clock.measure(f"cross-validate {name}"):
            results[name] = score_method(init, made.labelled, method, folds=tour.folds, execution=how)
            results[name].save(out / "runs" / name.replace(" ", "-"))
        say(f"{name}: refit on all {len(made.labelled)}, score on {len(made.unseen)} unseen images")
        with clock.measure("refit and score"):
            refitted[name] = fit_method(init, made.labelled, method, results[name].plan, execution=how)
            told = predict(refitted[name], made.unseen)
            right[name] = told.predicted == told.targets
            found = score_on_unseen(told.task.scored_by("accuracy"), told.outputs, told.targets, len(made.labelled))
            reach[name] = (found.low, found.high)
    truth = {name: float(hits.mean()) for name, hits in right.items()}
    best = next(row["method"] for row in results_table(results) if row["best"])
    save(refitted[best], out / "best")

    say("draw the report")
    with clock.measure("report"):
        intro = (
            f"{made.intro} Each method was cross-validated on these alone, then refitted on all of them and scored on "
            f"{len(made.unseen)} images that no fold has seen: what the estimate can be compared with. (That is an "
            f"estimate, too: {percent(reach[best][0])} to {percent(reach[best][1])} for {best}, a 95 % interval.)"
        )
        write_page(out / "report.html", made.title, results, source=made.labelled, intro=intro, truth=truth)
    gain = {name: paired_gain(hits, right[SCRATCH]) for name, hits in right.items() if SCRATCH in right}
    gain.pop(SCRATCH, None)
    found = Demo(results, truth, reach, gain, best, refitted[best], clock.parts, made)
    _write_summary(out, found.as_dict())
    return found


def paired_gain(right: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """By how much one accuracy is above another on the same ``bool[n]`` examples, and ends of its 95 % interval."""
    ahead = right.astype(float) - other.astype(float)
    half = NormalDist().inv_cdf(0.975) * float(ahead.std(ddof=1)) / np.sqrt(len(ahead))
    return float(ahead.mean()), float(ahead.mean() - half), float(ahead.mean() + half)


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
