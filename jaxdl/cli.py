"""Commands: arguments in, one call into the package, a table out."""

import csv
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro
from rich.console import Console
from rich.table import Table

from jaxdl import data as sources
from jaxdl.data.source import Source
from jaxdl.demo import FOLDS, demo
from jaxdl.errors import InputError
from jaxdl.models import MODELS, create
from jaxdl.report.inspect import inspect
from jaxdl.report.page import write_page
from jaxdl.report.table import print_table, results_table
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import Predictions, finetune, hold_out, predict
from jaxdl.validation.crossval import cross_validate
from jaxdl.validation.folds import FoldStrategy
from jaxdl.validation.splits import Splitter
from jaxdl.weights.checkpoint import Checkpoint, check_free, restore, save, written_whole

console = Console()
errors = Console(stderr=True)

# The plan's fields as options, without its checks: those speak when the Plan is made, in their own words.
Training = dataclasses.make_dataclass(
    "Training",
    [(f.name, f.type, dataclasses.field(default=f.default)) for f in dataclasses.fields(Plan) if f.name != "stage_lr"]
    + [("stage_lr", Mapping[str, float], dataclasses.field(default_factory=dict))],
    frozen=True,
)
Training.__doc__ = Plan.__doc__

TrainingOptions = tyro.conf.OmitArgPrefixes[Training]
ModelArguments = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")]


def pretrain_command(
    *,
    model: str,
    data: str,
    out: Path,
    training: TrainingOptions = Training(),  # noqa: B008
    validation_fraction: float = 0.0,
    image_size: int | None = None,
    model_arguments: ModelArguments = (),
    debug: bool = False,
) -> None:
    """Train a model from scratch and save a checkpoint.

    Args:
      model: name of a model, such as cnn, vit, resnet20_cifar.
      data: digits, digits:0-4, a folder of class folders (its train/ and val/ are splits), or a file .npz.
      out: folder for the checkpoint; must not exist yet.
      training: how to train.
      validation_fraction: share of the examples kept out of training to measure the curves on, where there is no val/.
      image_size: side in pixels to which images are brought.
      model_arguments: of the model, such as activation=tanh features=[16,32].
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    _train(None, model, model_arguments, data, plan, out, validation_fraction, image_size, "auto")


def finetune_command(
    *,
    data: str,
    out: Path,
    init: Path | None = None,
    model: str | None = None,
    training: TrainingOptions = Training(),  # noqa: B008
    head: Literal["auto", "fresh", "keep"] = "auto",
    validation_fraction: float = 0.0,
    image_size: int | None = None,
    model_arguments: ModelArguments = (),
    debug: bool = False,
) -> None:
    """Train a checkpoint on new data and save the result.

    Args:
      data: digits, digits:5-9, a folder of class folders (its train/ and val/ are splits), or a file .npz.
      out: folder for the checkpoint; must not exist yet.
      init: checkpoint to start from.
      model: instead of a checkpoint, a model to train from scratch.
      training: how to train.
      head: a fresh head, the checkpoint's (keep), or the checkpoint's if the classes are the same (auto).
      validation_fraction: share of the examples kept out of training to measure the curves on, where there is no val/.
      image_size: side in pixels to which images are brought; by default the checkpoint's.
      model_arguments: of a model, such as activation=tanh.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    _train(init, model, model_arguments, data, plan, out, validation_fraction, image_size, head)


def cross_validate_command(
    *,
    data: str,
    out: Path,
    init: Path | None = None,
    model: str | None = None,
    training: TrainingOptions = Training(),  # noqa: B008
    folds: int = 5,
    splitter: Splitter = "stratified",
    fold_strategy: FoldStrategy = "auto",
    image_size: int | None = None,
    model_arguments: ModelArguments = (),
    debug: bool = False,
) -> None:
    """Measure by cross-validation how good fine-tuning is.

    Args:
      data: digits, digits:5-9, a folder of class folders, or a file .npz (x, y, and optionally groups, times). Of a
        folder with splits, train/ is used; FOLDER:all takes both.
      out: folder for the results; must not exist yet.
      init: checkpoint that every fold starts from.
      model: instead of a checkpoint, a model to train from scratch.
      training: how to train each fold.
      folds: how many.
      splitter: how examples are divided.
      fold_strategy: how folds are run: one after another, all in one program, over devices, or whichever is fastest.
      image_size: side in pixels to which images are brought; by default the checkpoint's.
      model_arguments: of a model, such as activation=tanh.
      debug: show the traceback of an error.
    """
    plan, out = Plan(**vars(training)), check_free(out)
    source = sources.load(data, split="train")
    start = _start(init, model, source, model_arguments)
    if Path(data).is_dir() and sources.splits_of(data):
        console.print(f"{len(source)} examples of {source.name}; name {data}:all for all of them", soft_wrap=True)
    with progress(f"{splitter} folds") as show:
        result = cross_validate(
            start,
            source,
            plan,
            splitter=splitter,
            folds=folds,
            fold_strategy=fold_strategy,
            image_size=image_size,
            progress=show,
        )
    name = "fine-tuning" if isinstance(start, Checkpoint) else "from scratch"
    with written_whole(out) as work:
        result.write_to(work)
        write_page(work / "report.html", f"Cross-validation on {source.name}", {name: result}, source=source)
    print_table(console, results_table({name: result}))
    for row in result.folds:
        console.print(
            f"fold {row['fold'] + 1}: accuracy {row['accuracy']:.3f}, loss {row['loss']:.3f} on {row['test']} "
            f"examples, trained on {row['train']} in {row['seconds']:.1f} s"
        )
    console.print(f"folds: {result.fold_strategy['name']} ({result.fold_strategy['reason']})")
    console.print(f"results and report.html in {out}", soft_wrap=True)


def predict_command(*, checkpoint: Path, data: str, out: Path, debug: bool = False) -> None:
    """Write a checkpoint's predictions to a table.

    Args:
      checkpoint: folder of a trained checkpoint.
      data: digits, a folder (of class folders, or of images), or a file .npz.
      out: the table, FILE.csv; must not exist yet.
      debug: show the traceback of an error.
    """
    out = check_free(out)
    if out.is_dir():
        raise InputError(f"'{out}' is a folder; expected the name of a file .csv")
    predictions = predict(restore(checkpoint), sources.load(data, labelled=False))
    _write_csv(predictions, out)
    console.print(f"{len(predictions.logits)} predictions in {out}", soft_wrap=True)
    if predictions.labels is not None and (predictions.labels >= 0).all():
        console.print(f"accuracy {predictions.accuracy:.4f}")
    elif predictions.labels is not None:
        console.print("some classes of the data are not among the checkpoint's: no accuracy")


def inspect_command(
    target: tyro.conf.Positional[str],
    *,
    input_shape: tuple[int, ...] | None = None,
    num_outputs: int = 10,
    model_arguments: ModelArguments = (),
    debug: bool = False,
) -> None:
    """Show the stages of a checkpoint or model: shapes, parameters, FLOPs, bytes.

    Args:
      target: folder of a checkpoint, or name of a model.
      input_shape: of an example, such as 32 32 3; a checkpoint knows its own.
      num_outputs: classes of a model.
      model_arguments: of a model, such as depth=6.
      debug: show the traceback of an error.
    """
    if Path(target).exists():
        network: Any = restore(target)
        _print_card(network)
    elif target in MODELS or not any(c in target for c in "/\\."):
        network = create(target, num_outputs, **parse_arguments(model_arguments))
        input_shape = input_shape or (MODELS[target].image_size,) * 2 + (3,)
        console.print(f"{target} for inputs of shape {tuple(input_shape)} and {num_outputs} classes")
    else:
        raise InputError(f"there is no checkpoint '{target}', and no model has such a name")
    rows = inspect(network, input_shape)
    table = Table("stage", "output", *(_right(c) for c in ("parameters", "statistics", "FLOPs", "bytes")))
    for row in rows:
        shapes = ", ".join("×".join(map(str, shape)) for shape in row.output)
        table.add_row(row.name, shapes, *_counts(row.parameters, row.statistics, row.flops, row.bytes))
    totals = [sum(getattr(r, f) for r in rows) for f in ("parameters", "statistics", "flops", "bytes")]
    table.add_section()
    table.add_row("all", "", *_counts(*totals))
    console.print(table)


def demo_command(*, out: Path = Path("jaxdl-demo"), debug: bool = False) -> None:
    """Take the tour: transfer learning on embedded digits, cross-validated, in about a minute.

    Args:
      out: folder for report.html, the results and the checkpoints; new, or of an earlier demo.
      debug: show the traceback of an error.
    """
    begin = time.perf_counter()
    with errors.status("starting") as status:
        found = demo(out, say=lambda text: status.update(f"[{time.perf_counter() - begin:3.0f} s] {text}"))
    console.print(
        f"Pretrained on the digits 0 to 4, transferred to 5 to 9 with {len(found.labelled)} labelled images; "
        f"{FOLDS}-fold cross-validation; truth: refitted on all of these, scored on {len(found.unseen)} images that no "
        "fold has seen."
    )
    print_table(console, results_table(found.results, found.truth))
    best, truth = found.results[found.best], found.truth[found.best]
    console.print(
        f"Best: {found.best}. Cross-validation said {best.mean:.1%}, the truth is {truth:.1%}. (The best of several is "
        "chosen partly by luck, so its own mean leans upwards.)"
    )
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.seconds.items())
    console.print(f"Time: {parts}; {time.perf_counter() - begin:.1f} s in all.")
    console.print(f"Pictures: {out / 'report.html'}", soft_wrap=True)


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo_command,
    "pretrain": pretrain_command,
    "finetune": finetune_command,
    "cross-validate": cross_validate_command,
    "predict": predict_command,
    "inspect": inspect_command,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The program ``jaxdl``. A user's mistake ends in one message and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="jaxdl",
            description="Transfer learning in JAX whose results can be trusted.",
            args=arguments,
            registry=registry,
        )
    except (InputError, OSError) as error:
        if "--debug" in arguments:
            raise
        errors.print(f"jaxdl: error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("jaxdl: interrupted")
        sys.exit(130)


registry = tyro.constructors.ConstructorRegistry()


@registry.primitive_rule
def _choice(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Choices are listed in the help but checked by the package, whose message names the nearest."""
    if get_origin(info.type) is not Literal:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(get_args(info.type)) + "}",
        instance_from_str=lambda given: given[0],
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )


@registry.primitive_rule
def _factors(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """``head=10 stage3=1`` to a dict."""
    if info.type != Mapping[str, float]:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="STAGE=FACTOR ...",
        instance_from_str=_parse_factors,
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda value: [f"{stage}={factor}" for stage, factor in value.items()],
    )


def _parse_factors(given: Sequence[str]) -> dict[str, float]:
    factors = {}
    for item in given:
        stage, _, factor = item.partition("=")
        try:
            factors[stage] = float(factor)
        except ValueError:
            raise InputError(f"'{item}' is no STAGE=FACTOR; expected for example head=10") from None
    return factors


def parse_arguments(given: Sequence[str]) -> dict[str, Any]:
    """``("activation=tanh", "features=[8,16]")`` to a dict; values are JSON where they can be, else strings.

    Raises:
      InputError: for an item without ``=``.
    """
    arguments = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"'{item}' is no NAME=VALUE; expected for example activation=tanh")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return arguments


def _start(init: Path | None, model: str | None, source: Source, model_arguments: Sequence[str]) -> Init:
    """What training starts from: a checkpoint, or a fresh model for the classes of `source`."""
    if (init is None) == (model is None):
        raise InputError("give either --init CHECKPOINT or --model NAME")
    if init is None:
        return create(model, max(1, len(source.class_names)), **parse_arguments(model_arguments))
    if model_arguments:
        raise InputError("--model-arguments go with --model; a checkpoint knows its own")
    return restore(init)


def _train(
    init: Path | None,
    model: str | None,
    model_arguments: Sequence[str],
    data: str,
    plan: Plan,
    out: Path,
    validation_fraction: float,
    image_size: int | None,
    head: str,
) -> None:
    check_free(out)
    source, validation = sources.load(data, split="train"), None
    start = _start(init, model, source, model_arguments)
    if Path(data).is_dir() and "val" in sources.splits_of(data):
        validation = sources.folder(data, "val")
        if validation_fraction:
            raise InputError(f"'{data}' has a val folder; --validation-fraction is for data without one")
    elif validation_fraction:
        source, validation = hold_out(source, validation_fraction, plan.seed)
    with progress(f"{plan.epochs} epochs") as show:
        tuned = finetune(start, source, plan, validation=validation, head=head, image_size=image_size, progress=show)
    save(tuned, out)
    last = tuned.history[-1]
    held = f"; held out: accuracy {last['test_accuracy']:.4f}, loss {last['test_loss']:.4f}" if validation else ""
    console.print(f"training: accuracy {last['train_accuracy']:.4f}, loss {last['train_loss']:.4f}{held}")
    console.print(f"checkpoint in {out}", soft_wrap=True)


@contextmanager
def progress(title: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A line that shows the newest row of the curves while training goes on."""
    begin = time.perf_counter()
    with errors.status(f"{title}: preparing and compiling") as status:

        def show(row: Mapping[str, Any]) -> None:
            fold = f"fold {row['fold'] + 1}, " if "fold" in row else ""
            held = f", held out {row['test_accuracy']:.3f}" if "test_accuracy" in row else ""
            status.update(
                f"{title}: {fold}epoch {row['epoch']}, loss {row['train_loss']:.4f}, accuracy "
                f"{row['train_accuracy']:.3f}{held}, {time.perf_counter() - begin:.0f} s"
            )

        yield show


def _write_csv(predictions: Predictions, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.part")
    names = predictions.class_names
    probabilities = predictions.probabilities
    with open(work, "w", newline="") as file:
        writer = csv.writer(file)
        known = ["label"] if predictions.labels is not None else []
        writer.writerow(["example", "predicted", "confidence", *known, *(f"p:{name}" for name in names)])
        for i, row in enumerate(probabilities):
            example = predictions.names[i] if predictions.names else i
            label = [] if predictions.labels is None else [_class_name(predictions.labels[i], names)]
            best = predictions.predicted[i]
            writer.writerow([example, names[best], f"{row[best]:.6f}", *label, *(f"{p:.6f}" for p in row)])
    work.replace(path)


def _class_name(label: int, names: Sequence[str]) -> str:
    return names[label] if label >= 0 else ""


def _right(title: str) -> Any:
    from rich.table import Column

    return Column(title, justify="right")


def _counts(*values: float) -> list[str]:
    return [f"{value:,.0f}" for value in values]


def _print_card(checkpoint: Checkpoint) -> None:
    card = checkpoint.card
    shape = "×".join(map(str, card.preprocessing.input_shape))
    console.print(f"checkpoint {checkpoint.path}", soft_wrap=True)
    console.print(f"classes: {', '.join(card.class_names) or 'unknown'}; input {shape} {card.preprocessing.kind}")
    for what, value in (("trained on", card.data), ("parent", card.parent), ("converted from", card.source)):
        if value:
            console.print(f"{what}: {value}", soft_wrap=True)
