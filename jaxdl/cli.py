"""Commands: arguments in, one call into the package, a table out."""

import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from logging import getLogger
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from absl import logging
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from jaxdl import data as sources
from jaxdl.cli_options import (
    Debug,
    InitOption,
    ModelArguments,
    ModelName,
    ModelOption,
    NewCheckpoint,
    SizeOption,
    Spec,
    Training,
    TrainingOptions,
    option,
    parse_arguments,
    registry,
)
from jaxdl.data.source import Source
from jaxdl.demo import FOLDS, demo
from jaxdl.errors import InputError, check_choice, nearest
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

console = Console(markup=False, emoji=False)  # a path or a class may be called [anything]
errors = Console(stderr=True, markup=False, emoji=False)
MOST_FOLDS = 20  # with more, they are not listed one by one


def pretrain_command(
    *,
    model: ModelName,
    data: Spec,
    out: NewCheckpoint,
    training: TrainingOptions = Training(),  # noqa: B008
    validation_fraction: float = 0.0,
    image_size: SizeOption = None,
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Train a model from scratch and save a checkpoint.

    Args:
      model: name of a model, such as cnn, vit or resnet20_cifar.
      data: digits, digits:0-4, a folder of class folders (train/ and val/ below it are splits), or an .npz file.
      out: folder for the new checkpoint; must not exist yet.
      training: how to train.
      validation_fraction: share of the examples to hold out for measuring the curves, where the data has no val/.
      image_size: side in pixels that images are brought to; by default their own, or the model's if they differ.
      model_arguments: arguments of the model, such as activation=tanh features=[16,32].
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    _train(None, model, model_arguments, data, plan, out, validation_fraction, image_size, "auto")


def finetune_command(
    *,
    data: Spec,
    out: NewCheckpoint,
    init: InitOption = None,
    model: ModelOption = None,
    training: TrainingOptions = Training(),  # noqa: B008
    head: Literal["auto", "fresh", "keep"] = "auto",
    validation_fraction: float = 0.0,
    image_size: SizeOption = None,
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Train a checkpoint on new data and save the result.

    Args:
      data: digits, digits:5-9, a folder of class folders (train/ and val/ below it are splits), or an .npz file.
      out: folder for the new checkpoint; must not exist yet.
      init: checkpoint to start from.
      model: name of a model to train from scratch, instead of --init.
      training: how to train.
      head: start with a fresh head, keep the checkpoint's, or (auto) keep it if the classes are the same.
      validation_fraction: share of the examples to hold out for measuring the curves, where the data has no val/.
      image_size: side in pixels that images are brought to; by default the checkpoint's.
      model_arguments: arguments of --model, such as activation=tanh.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    _train(init, model, model_arguments, data, plan, out, validation_fraction, image_size, head)


def cross_validate_command(
    *,
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    init: InitOption = None,
    model: ModelOption = None,
    training: TrainingOptions = Training(),  # noqa: B008
    folds: int = 5,
    splitter: Splitter = "stratified",
    fold_strategy: FoldStrategy = "auto",
    image_size: SizeOption = None,
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Measure by cross-validation how good fine-tuning is.

    Args:
      data: digits, digits:5-9, a folder of class folders (its train/ if it has one; DIR:all for all), or an .npz file.
      out: folder for the results; must not exist yet.
      init: checkpoint that every fold starts from.
      model: name of a model to train from scratch, instead of --init.
      training: how to train each fold.
      folds: number of folds; leave-one-out and holdout have their own.
      splitter: how examples are divided; group needs groups in the .npz file, time-series needs times.
      fold_strategy: how folds are run: in turn (loop), in one program (vmap), over devices (shard), or the fastest.
      image_size: side in pixels that images are brought to; by default the checkpoint's.
      model_arguments: arguments of --model, such as activation=tanh.
      debug: show the traceback of an error.
    """
    plan, out = Plan(**vars(training)), check_free(out)
    source = sources.load(data, split="train")
    start = _start(init, model, source, model_arguments)
    if Path(data).is_dir() and sources.splits_of(data):
        console.print(f"{len(source)} examples of {source.name}; name {data}:all for all of them", soft_wrap=True)
    count = {"leave-one-out": len(source), "holdout": 1}.get(splitter, folds)
    with progress(count * plan.epochs) as show:
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
    for row in result.folds if len(result.folds) <= MOST_FOLDS else ():
        console.print(
            f"fold {row['fold']}: accuracy {row['accuracy']:.3f}, loss {row['loss']:.3f} on {row['test']} "
            f"example{'s' if row['test'] > 1 else ''}, trained on {row['train']} in {row['seconds']:.1f} s"
        )
    if isinstance(start, Checkpoint) and start.card.data == source.name:
        console.print(
            f"Caution: the checkpoint was trained on {source.name} itself. If that holds these examples, the result is "
            "too good: the folds' test examples are not new to it."
        )
    if source.groups is not None and splitter != "group":
        console.print(f"The groups of {source.name} were not kept together; --splitter group does that.")
    console.print(f"folds: {result.fold_strategy['name']} ({result.fold_strategy['reason']})")
    console.print(f"results and report.html in {out}", soft_wrap=True)


def predict_command(
    *,
    checkpoint: Annotated[Path, tyro.conf.arg(metavar="CKPT")],
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.csv")],
    debug: Debug = False,
) -> None:
    """Write a checkpoint's predictions to a table.

    Args:
      checkpoint: folder of a trained checkpoint.
      data: digits, a folder (of class folders, or of images), or an .npz file.
      out: file for the table; must not exist yet.
      debug: show the traceback of an error.
    """
    out = check_free(out)
    if out.is_dir():
        raise InputError(f"'{out}' is a folder; expected the name of a file .csv")
    source = sources.load(data, labelled=False)
    predictions = predict(restore(checkpoint), source)
    _write_csv(predictions, source, out)
    console.print(f"{len(predictions.logits)} predictions in {out}", soft_wrap=True)
    if Path(data).is_dir() and len(sources.splits_of(data)) > 1:
        console.print(f"of train/ and val/ together; name {data}:val for those of val/ alone", soft_wrap=True)
    if predictions.labels is not None and (predictions.labels >= 0).all():
        console.print(f"accuracy {predictions.accuracy:.4f}")
    elif predictions.labels is not None:
        foreign = [c for c in source.class_names if c not in predictions.class_names]
        console.print(f"no accuracy: the checkpoint does not know all classes of the data ({_listed(foreign)})")


def inspect_command(
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CKPT|MODEL")],
    *,
    input_shape: Annotated[tuple[int, ...] | None, option("INT ...")] = None,
    num_outputs: int = 10,
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Show the stages of a checkpoint or model: shapes, parameters, FLOPs, bytes.

    Args:
      target: folder of a checkpoint, or name of a model.
      input_shape: shape of an example, such as 32 32 3; a checkpoint knows its own.
      num_outputs: number of classes, for a model.
      model_arguments: arguments of a model, such as depth=6.
      debug: show the traceback of an error.
    """
    if Path(target).exists():
        network: Any = restore(target)
    elif target in MODELS:
        network = create(target, num_outputs, **parse_arguments(model_arguments))
        input_shape = input_shape or (MODELS[target].image_size,) * 2 + (3,)
    else:
        raise InputError(
            f"'{target}' is neither the folder of a checkpoint nor a model; the models are: {', '.join(MODELS)}."
            + nearest(target, MODELS)
        )
    rows = inspect(network, input_shape)
    if isinstance(network, Checkpoint):
        _print_card(network)
    else:
        console.print(f"{target} for inputs of shape {tuple(input_shape)} and {num_outputs} classes")
    table = Table("stage", "output", *(_right(c) for c in ("parameters", "statistics", "FLOPs", "bytes")))
    for row in rows:
        shapes = ", ".join("×".join(map(str, shape)) for shape in row.output)
        table.add_row(row.name, shapes, *_counts(row.parameters, row.statistics, row.flops, row.bytes))
    totals = [sum(getattr(r, f) for r in rows) for f in ("parameters", "statistics", "flops", "bytes")]
    table.add_section()
    table.add_row("all", "", *_counts(*totals))
    console.print(table)


def demo_command(*, out: Path = Path("jaxdl-demo"), debug: Debug = False) -> None:
    """Take the tour: transfer learning on embedded digits, in about a minute.

    Args:
      out: folder for report.html, the results and the checkpoints; new, or of an earlier demo.
      debug: show the traceback of an error.
    """
    begin = time.perf_counter()
    with errors.status("starting") as status:
        found = demo(out, say=lambda text: status.update(f"{time.perf_counter() - begin:3.0f} s  {text}"))
    console.print(
        f"Pretrained on the digits 0 to 4, transferred to 5 to 9 with {len(found.labelled)} labelled images; "
        f"{FOLDS}-fold cross-validation. Unseen is the truth: refitted on all of these, scored on {len(found.unseen)} "
        "images that no fold has seen."
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
    is_program = arguments is None
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if is_program:
        _prepare_process(debug)
    try:
        if arguments == ["--version"]:
            console.print(f"jaxdl {version('jaxdl')}", highlight=False)
            return
        if arguments and not arguments[0].startswith("-"):
            check_choice("command", arguments[0], COMMANDS)
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="jaxdl",
            description="Transfer learning in JAX whose results can be trusted.",
            args=arguments,
            registry=registry,
        )
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, OSError) as error:
        if debug:
            raise
        errors.print(f"jaxdl: error: {error}", style="red", highlight=False, soft_wrap=True)
        _leave(2, is_program)
    except KeyboardInterrupt:
        errors.print("jaxdl: interrupted")
        _leave(130, is_program)


def _leave(code: int, is_program: bool) -> None:
    """Ends with an exit code; a process of our own at once.

    Threads still at work (XLA's after an interruption, TensorStore's after a damaged checkpoint) make an orderly end
    crash or talk.
    """
    if is_program:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _keep_compiled_programs() -> None:
    """A second start finds what the first one compiled, in the user's cache folder or JAX_COMPILATION_CACHE_DIR."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(caches, "jaxdl", "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # JAX's second skips most of ours


def _prepare_process(debug: bool) -> None:
    _keep_compiled_programs()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a file's name may not be text, a terminal may not know Unicode
    if not debug:  # of a damaged checkpoint one message speaks, not Orbax's log and late callbacks too
        logging.set_verbosity(logging.FATAL)
        getLogger("asyncio").setLevel("CRITICAL")
        sys.unraisablehook = lambda _: None


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
    with progress(plan.epochs) as show:
        tuned = finetune(start, source, plan, validation=validation, head=head, image_size=image_size, progress=show)
    save(tuned, out)
    last = tuned.history[-1]
    held = f"; held out: accuracy {last['test_accuracy']:.4f}, loss {last['test_loss']:.4f}" if validation else ""
    console.print(f"training: accuracy {last['train_accuracy']:.4f}, loss {last['train_loss']:.4f}{held}")
    console.print(f"checkpoint in {out}", soft_wrap=True)


@contextmanager
def progress(rows: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar that `rows` rows of the curves fill, with the newest one beside it; where someone watches."""
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(8), TimeElapsedColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("preparing and compiling", total=rows)

        def show(row: Mapping[str, Any]) -> None:
            fold = f"fold {row['fold']}, " if "fold" in row else ""
            held = f", held out {row['test_accuracy']:.3f}" if "test_accuracy" in row else ""
            text = f"{fold}epoch {row['epoch']}: loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}"
            bar.update(task, advance=1, description=text + held)

        yield show


def _write_csv(predictions: Predictions, source: Source, path: Path) -> None:
    """A row per example, all or nothing; names of files are written as they are, even those that are not text."""
    names = predictions.class_names
    known = ["label"] if source.labels is not None else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        work = Path(folder) / path.name
        with open(work, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["example", "predicted", "confidence", *known, *(f"p:{name}" for name in names)])
            for i, (row, best) in enumerate(zip(predictions.probabilities, predictions.predicted, strict=True)):
                example = predictions.names[i] if predictions.names else i
                label = [] if source.labels is None else [source.class_names[source.labels[i]]]
                writer.writerow([example, names[best], f"{row[best]:.6f}", *label, *(f"{p:.6f}" for p in row)])
        work.replace(path)


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
