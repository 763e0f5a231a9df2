"""What ``jaxdl COMMAND --help`` shows: the options that most people need. ``--help-all`` shows all of them."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from rich.table import Table

from jaxdl.commands.console import console

ALL = "--help-all"
HELP = ("-h", "--help", ALL)

# What an option is for, and a value as an example.
DATA = {"--data": ("photos", "the examples: a folder with a folder per class, FILE.csv:TARGET, FILE.npz, or digits")}
TEXT = {"--text-column": ("review", "learn from the texts in this column of the table")}
INIT = {"--init": ("hf:timm/resnet50.a1_in1k", "pretrained network to start from: published weights or a checkpoint")}
MODEL = {"--model": ("cnn", "train this model from scratch, instead of --init (jaxdl models lists all)")}
RUN = {"--out": ("run", "folder for the results; the same command goes on with a run that was stopped")}
FREEZE = {"--freeze-through": ("body", "train the head alone; a stage's name freezes up to that stage")}
EPOCHS = {"--epochs": ("20", "passes over the training examples")}
RATE = {"--learning-rate": ("1e-3", "peak of the learning rate; jaxdl find-lr suggests one")}
FOLDS = {"--folds": ("5", "number of folds")}
METRIC = {"--metric": ("auc", "score of the result; by default accuracy of classes, r2 of numbers")}
CHECKPOINT = {"--out": ("tuned", "folder for the new checkpoint")}
AUGMENT = {"--augment": ("standard", "change the training images at random; jaxdl show draws what this does")}
TRAINING = FREEZE | EPOCHS | RATE

FIRST: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "pretrain": DATA
    | {"--model": ("cnn", "the model (jaxdl models lists all)")}
    | CHECKPOINT
    | EPOCHS
    | RATE
    | {"--batch-size": ("32", "examples in a step")}
    | AUGMENT
    | {"--validation-fraction": ("0.2", "share of the examples to hold out and measure on")},
    "finetune": DATA
    | TEXT
    | INIT
    | CHECKPOINT
    | TRAINING
    | AUGMENT
    | {"--validation-fraction": ("0.2", "share of the examples to hold out and measure on")},
    "cross-validate": DATA | TEXT | INIT | MODEL | RUN | FOLDS | TRAINING,
    "split": DATA
    | FOLDS
    | {
        "--splitter": ("stratified", "how to divide the examples; auto keeps classes even and groups together"),
        "--task": ("regression", "what the targets are, if they should not be read as they look"),
        "--seed": ("0", "of the shuffling"),
        "--out": ("folds", "folder for a table, a picture, and the folds for --splitter of other commands"),
    },
    "recommend": DATA
    | INIT
    | RUN
    | {
        "--minutes": ("10", "time for all of it; what does not fit is left out, with what it would take"),
        "--methods": ("probe frozen full", "what to try; by default all that apply"),
    }
    | EPOCHS
    | FOLDS
    | METRIC,
    "search": DATA
    | INIT
    | RUN
    | {
        "--space": ("learning_rate=log:1e-4:1e-1 freeze_through=none,body", "what to try"),
        "--strategy": (
            "random",
            "all combinations (grid), draws (random), or halving: more epochs for the best",
        ),
        "--trials": ("20", "how many configurations to draw"),
    }
    | EPOCHS
    | {"--finetune": ("", "train the best configuration on all examples, too")},
    "learning-curve": DATA
    | INIT
    | MODEL
    | RUN
    | {"--sizes": ("10 20 50 100%", "numbers of training examples, or shares of them")}
    | TRAINING,
    "variance": DATA
    | INIT
    | MODEL
    | RUN
    | {
        "--splits": ("10", "how often to divide the examples"),
        "--seeds": ("3", "trainings on each division"),
    }
    | FREEZE
    | EPOCHS,
    "probe": DATA
    | TEXT
    | INIT
    | {"--out": ("heads", "folder for the results")}
    | {"--heads": ("ridge logistic knn", "which heads to fit; by default all but mlp")}
    | FOLDS
    | METRIC
    | {"--save-best": ("best", "save a checkpoint with the best head")},
    "plan": {"--on": ("v5e:4x4 h100x8", "where it would run: slices of TPUs, or so many GPUs, to compare")}
    | DATA
    | INIT
    | MODEL
    | {
        "--price": ("1.2", "of a chip for an hour; one for each slice, or one for all"),
        "--json": ("plan.json", "file for the same as JSON"),
    }
    | EPOCHS
    | {"--batch-size": ("32", "examples in a step")},
    "predict": {
        "--checkpoint": ("tuned", "the trained network or ensemble"),
        "--data": ("photos", "what to predict: a folder of images, FILE.csv, FILE.npz"),
        "--out": ("predictions.csv", "file for the table"),
        "--top": ("5", "write the most probable classes alone"),
        "--batch-size": ("64", "examples at a time"),
        "--coverage": ("0.9", "also sets (intervals) that hold the truth so often; of an ensemble of folds"),
        "--out-of-fold": ("", "predict each example by the folds that were not trained on it"),
    },
    "embed": {
        "--checkpoint": (
            "hf:sentence-transformers/all-MiniLM-L6-v2",
            "published weights, or a checkpoint",
        ),
        "--data": ("photos", "the examples: a folder of images, FILE.csv, FILE.npz"),
        "--out": ("vectors.npz", "file for the vectors, which --data of other commands reads"),
        "--normalise": ("yes", "bring each vector to unit length; auto does as the weights were published"),
        "--stage": ("body", "take what flows out of this stage instead of into the head"),
    },
    "find-lr": DATA
    | INIT
    | MODEL
    | FREEZE
    | {"--out": ("find-lr.png", "file for the picture"), "--steps": ("100", "length of the test")},
    "convert": {
        "--from": ("hf:timm/resnet50.a1_in1k", "published weights: a file, or a name on Hugging Face's hub"),
        "--out": ("resnet50", "folder for the new checkpoint"),
        "--model": ("resnet50", "the model, where the file does not say it (jaxdl models lists all)"),
        "--class-names": ("names.txt", "file of the classes' names, one in each line"),
        "--image-size": ("224", "side of the images in pixels"),
    },
}


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
      default: its value where it is left out; `inspect.Parameter.empty` where it must be given.
      shown: whether the default says anything (that it is off, or empty, does not).
    """

    default: Any

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty

    @property
    def shown(self) -> bool:
        """Whether its default is worth showing."""
        return not self.required and self.default not in (None, False, True, (), "auto")


def options_of(command: Callable[..., None]) -> dict[str, Option]:
    """All options of a command, with those of its blocks, by their names such as ``--learning-rate``."""
    hints, found = get_type_hints(command, include_extras=True), {}
    for parameter in inspect.signature(command).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        kind = hints[parameter.name]
        block = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if not dataclasses.is_dataclass(block):
            found |= _named(parameter.name, kind, parameter.default)
            continue
        for field in dataclasses.fields(block):
            made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            found |= _named(field.name, field.type, inspect.Parameter.empty if made is dataclasses.MISSING else made)
    return found


def _named(name: str, kind: Any, default: Any) -> dict[str, Option]:
    given = [told.name for told in getattr(kind, "__metadata__", ()) if getattr(told, "name", None)]
    name = (given or [name])[-1].replace("_", "-")
    names = (f"--{name}", f"--no-{name}") if isinstance(default, bool) else (f"--{name}",)
    return dict.fromkeys(names, Option(default))


def print_help(name: str, command: Callable[..., None]) -> None:
    """The options of `FIRST`, each with an example."""
    options = options_of(command)
    places = [p for p in inspect.signature(command).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    given = "".join(f" [{place.name.upper()}]" for place in places)
    console.print(f"usage: jaxdl {name}{given} OPTIONS\n\n{command.__doc__.splitlines()[0]}\n", highlight=False)
    table = Table.grid(padding=(0, 2))
    for option, (example, meaning) in FIRST[name].items():
        held = options[option]
        remark = " (required)" if held.required else f" (default: {held.default})" if held.shown else ""
        table.add_row("", f"{option} {example}".rstrip(), f"{meaning}{remark}")
    console.print("Options, each with an example:")
    console.print(table, highlight=False)
    more = len({option.replace("--no-", "--") for option in options}) - len(FIRST[name])
    console.print(f"\njaxdl {name} {ALL} shows {more} more options.", highlight=False)
