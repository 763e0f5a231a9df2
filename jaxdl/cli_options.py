"""The options of the commands: blocks that several of them share, and how values that tyro does not know are read."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

from jaxdl.data import MaskOptions, TableOptions, has_masks, is_table, names_features
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel.layout import Layout, Parallel, parse_mesh
from jaxdl.parallel.watchdog import HANG_SECONDS
from jaxdl.tasks import TASKS
from jaxdl.training.plan import Plan
from jaxdl.training.plan_parts import ClassWeights
from jaxdl.validation.recommend.recommend import Recommending
from jaxdl.validation.search.search import Searching
from jaxdl.validation.search.selection import Criterion, Selection
from jaxdl.validation.splitters import Splitter, Splitting
from jaxdl.validation.strategy import FoldStrategy
from jaxdl.weights.buckets import as_named


def option(metavar: str | None = None) -> Any:
    """An option that may be left out; its help says what that means, so that no default is shown."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Flag = Annotated[tyro.conf.FlagCreatePairsOff[bool], option()]
# Of the fields of `Plan`, `Splitting` and `Searching` those that may be left out, with what stands for their value.
METAVARS = {
    "freeze_through": "STAGE",
    "adapter": "lora:RANK[:STAGE,...]",
    "clip_norm": "FLOAT",
    "stage_lr": None,
    "augment": "NAME ...",
    "class_weights": None,
    "loss_function": "{cross_entropy,focal,dice,cross_entropy+dice}",
    "unfreeze_every": "EPOCHS",
    "early_stopping": "EPOCHS",
    "repeats": "INT",
    "gap": "INT",
    "horizon": "FLOAT",
    "embargo": "FLOAT",
    "test_groups": "INT",
    "test_fraction": "FLOAT",
    "trials": "INT",
    "methods": "METHOD ...",
}


def _options(kind: type, **types: Any) -> type:
    """The fields of a dataclass as options, without its checks: these are made when it is.

    Args:
      kind: the dataclass.
      **types: in place of a field's own; None leaves the field out.
    """
    fields = []
    for field in dataclasses.fields(kind):
        shown = types.get(field.name, field.type)
        if shown is None:
            continue
        if field.name in METAVARS:
            shown = Annotated[shown, option(METAVARS[field.name])]
        default = dataclasses.field(default=field.default, default_factory=field.default_factory)
        fields.append((field.name, shown, default))
    # tyro looks for what a field means in the docstrings of a class and of those that it inherits from
    documented = tuple(type(one.__name__, (), {"__doc__": one.__doc__}) for one in kind.__mro__[1:-1])
    made = dataclasses.make_dataclass(f"{kind.__name__}Options", fields, bases=documented, frozen=True)
    made.__doc__ = kind.__doc__
    return made


AS_BOOL = {"auto": None, "yes": True, "no": False}
Spec = Annotated[str, tyro.conf.arg(metavar="SPEC")]
NewRun = Annotated[Path, tyro.conf.arg(metavar="RUN")]
NewCheckpoint = Annotated[Path, tyro.conf.arg(metavar="CKPT")]
SizeOption = Annotated[int | None, option("INT")]
TaskOption = Annotated[str, option("{" + ",".join(("auto", *TASKS)) + "}")]
MetricOption = Annotated[str | None, option("NAME")]
AllowOption = Annotated[tuple[str, ...], option("LEAK ...")]
ModelArguments = Annotated[tuple[str, ...], option("NAME=VALUE ...")]
Debug = Flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """What is learned from, and what is asked.

    Attributes:
      data: digits[:5-9], a folder of class folders (of images, or .txt), or of images/ and masks/ (of splits its
        train/), FILE.npz, a table FILE.csv, .tsv, .data, .txt, .jsonl or .parquet[:TARGET] (or :A,B,C for several
        labels), words with tags FILE.conll[:COLUMN] or .jsonl[:FIELD], tfds:NAME.
      image_size: side in pixels that images are resized to; by default the checkpoint's, or the images' own.
      task: one class for each example, any number of labels, a number, or a class for each pixel (segmentation: a
        folder of images/ and masks/, or FILE.npz), or a tag for each word; auto looks at the targets.
      classes: of masks: text file with the name of a class in each line, and its colour (R G B) where masks have
        colours; by default classes.txt in the folder, or else their numbers.
      void: of masks: number, colour R,G,B or class of the pixels that nobody knows; none for none, 255 by default.
      tile: of masks: side in pixels of the tiles into which images are cut, each an example.
      group: of a table: column of what belongs together, such as patients; of masks: images that belong together, by a
        regular expression found in their names, or frames:N for N consecutive frames.
      target: of a table: column to learn, or several (labels); by default one called target, label, class or y.
      time: of a table: column of numbers or dates that the rows are in the order of.
      weight: of a table: column of how much each row counts in training; scores count each row once.
      text_column: of a table: column of texts to learn from, or two whose texts are compared.
      drop: of a table: columns to leave out.
      feature: of a table: columns to learn from although they look like an identity, a time or a copy of the target.
      header: of a table: whether its first line holds the names of the columns.
      skip_broken: leave out image files that cannot be read; they are listed.
      drop_contradicting: leave out examples that are equal but labelled differently, such as one image in two classes.
      group_duplicates: keep copies of an example, and images that look the same, on one side of every split: as groups.
    """

    data: Spec
    image_size: SizeOption = None
    task: TaskOption = "auto"
    classes: Annotated[Path | None, option("FILE")] = None
    void: Annotated[str | None, option("NUMBER")] = None
    tile: SizeOption = None
    group: Annotated[str | None, option("COLUMN|REGEX|frames:N")] = None
    target: Annotated[tuple[str, ...], option("COLUMN ...")] = ()
    time: Annotated[str | None, option("COLUMN")] = None
    weight: Annotated[str | None, option("COLUMN")] = None
    text_column: Annotated[tuple[str, ...], option("COLUMN [COLUMN]")] = ()
    drop: Annotated[tuple[str, ...], option("COLUMN ...")] = ()
    feature: Annotated[tuple[str, ...], option("COLUMN ...")] = ()
    header: Literal["auto", "yes", "no"] = "auto"
    skip_broken: Flag = False
    drop_contradicting: Flag = False
    group_duplicates: Flag = False

    @property
    def table(self) -> TableOptions | None:
        """What the columns of a table are for; None where there is none.

        Raises:
          InputError: for an option that is of tables alone.
        """
        check_choice("header", self.header, AS_BOOL)
        given = {name: getattr(self, name) for name in ("target", "text_column", "time", "weight", "drop", "feature")}
        if is_table(self.data):
            header = AS_BOOL[self.header]
            return TableOptions(**given | {"target": self.target or None}, group=self.group, header=header)
        names = ("target", "text_column") if names_features(self.data) else ()
        features = {name: given.pop(name) for name in names}
        for name, value in (given | {"header": AS_BOOL[self.header]}).items():
            if value not in (None, ()):
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is for tables, but {self.data} is none; leave it out")
        return TableOptions(**features | {"target": self.target or None}) if any(features.values()) else None

    @property
    def masks(self) -> MaskOptions | None:
        """How masks are read; None where there are none. Raises InputError for an option that is of masks alone."""
        given = {name: getattr(self, name) for name in ("classes", "void", "tile", "group")}
        if is_table(self.data):
            del given["group"]  # a column of it
        if has_masks(self.data, self.task):
            void = {} if self.void is None else {"void": parse_void(self.void)}
            return MaskOptions(**given | {"void": "auto"} | void, size=self.image_size)
        for name, value in given.items():
            if value is not None:
                raise InputError(
                    f"--{name} {value} is for masks, but {self.data} has none; leave it out, or name --task "
                    "segmentation for a folder of images/ and masks/"
                )
        return None

    @property
    def resized_to(self) -> int | None:
        """Side to which the network's preprocessing resizes; images with masks come in their size."""
        return None if self.masks else self.image_size


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the examples of a command that trains nothing are read.

    Attributes:
      text_column: of a table: column of the texts, or two, if their names differ from those in training.
      skip_broken: leave out image files that cannot be read; they are listed.
    """

    text_column: Annotated[tuple[str, ...], option("COLUMN [COLUMN]")] = ()
    skip_broken: Flag = False

    def table(self, spec: str) -> TableOptions | None:
        """What the columns of a table are for, if that is said. Raises InputError for what has none."""
        if self.text_column and not (is_table(spec) or names_features(spec)):
            raise InputError(f"--text-column is for tables, but {spec} is none; leave it out")
        return TableOptions(text_column=self.text_column) if self.text_column else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExamplesAsTokens(Examples):
    """As `Examples`.

    Attributes:
      tokenizer: of texts, for a --model: a tokenizer.json or a sentencepiece .model, a folder that holds such a file
        or a vocab.txt, or a checkpoint; train:8000 makes one of the texts themselves, of so many tokens at most.
      length: of texts: number of tokens at which longer ones are cut; by default the checkpoint's, or the model's.
    """

    tokenizer: Annotated[str | None, option("FILE|train[:INT]")] = None
    length: Annotated[int | None, option("INT")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Untrained(ExamplesAsTokens):
    """A new model, and what it learns.

    Attributes:
      model: name of a model, such as cnn, vit or resnet20_cifar.
      model_arguments: arguments of the model, such as activation=tanh features=[16,32].
      metric: score of the result: auc or f1 of classes or labels, mae of numbers, or a scorer of scikit-learn; by
        default the first of the task.
    """

    model: Annotated[str, tyro.conf.arg(metavar="NAME")]
    model_arguments: ModelArguments = ()
    metric: MetricOption = None

    @property
    def init(self) -> None:
        """There is no checkpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start(ExamplesAsTokens):
    """What is trained, and on what.

    Attributes:
      init: checkpoint to start from, or hf:OWNER/NAME of published weights.
      model: name of a model to train from scratch, instead of --init.
      model_arguments: arguments of --model, such as activation=tanh features=[16,32].
    """

    init: Annotated[Path | None, option("CKPT")] = None
    model: Annotated[str | None, option("NAME")] = None
    model_arguments: ModelArguments = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject(Start):
    """What is trained, on what, and how it is scored.

    Attributes:
      metric: score of the result: auc or f1 of classes or labels, mae of numbers, or a scorer of scikit-learn; by
        default the first of the task.
    """

    metric: MetricOption = None


@dataclasses.dataclass(frozen=True)
class Devices:
    """Which devices are used, and for what.

    Attributes:
      devices: how many devices of this machine to use; auto takes all.
      parallel: divide every batch over the devices (data, or pmap with explicit collectives), parameters too (fsdp), or
        lay folds and other trainings over them (folds); auto divides batches, and lays folds as is fastest.
      mesh: parts of the trainings, of a batch and of a model, such as fold=4,data=2, for those who know.
    """

    devices: Annotated[str, option("auto|N")] = "auto"
    parallel: Parallel = "auto"
    mesh: Annotated[str | None, option("fold=N,data=N,model=N")] = None

    @property
    def layout(self) -> Layout:
        """The same, checked. Raises InputError."""
        if self.devices != "auto" and not self.devices.isdigit():
            raise InputError(f"--devices is '{self.devices}'; expected auto, or a number of devices such as 4")
        devices = None if self.devices == "auto" else int(self.devices)
        return Layout(devices, self.parallel, None if self.mesh is None else parse_mesh(self.mesh))

    @property
    def layout_of_examples(self) -> Layout:
        """Of a command that trains nothing. Raises InputError for what is of trainings alone."""
        layout = self.layout
        if self.parallel == "pmap" or layout.at_once:
            raise InputError(
                f"{layout.said} is of trainings, and none is run here: examples are divided over the devices; give "
                "--devices alone"
            )
        return layout


@dataclasses.dataclass(frozen=True)
class Running(Devices):
    """How a run is carried out; none of it changes the numbers.

    Attributes:
      report: do not write the page report.html; jaxdl report RUN writes it later.
      restart: start again from the beginning; what is in --out is first moved aside.
      remat: keep fewer activations and compute them again in the backward pass: less memory, a third more time.
      save_every: seconds between saves of the state, from which the same command goes on after an interruption.
      stream: read the examples in each epoch instead of keeping them in memory; auto does if they do not fit.
      workers: processes that decode what is streamed; 0 for none.
      tensorboard: write TensorBoard's event files below --out, too.
      wandb: project of Weights & Biases to log to, too.
      allow: leaks to accept: labels, groups, times, duplicates, near-duplicates, frames, parent, identity-columns,
        time-columns, target-columns; the result lists them.
    """

    fold_strategy = "auto"  # an option of those below, as is memory
    memory = None

    report: Flag = True
    restart: Flag = False
    remat: Flag = False
    save_every: float = 60.0
    stream: Literal["auto", "always", "never"] = "auto"
    workers: int = 2
    tensorboard: Flag = False
    wandb: Annotated[str | None, option("PROJECT")] = None
    allow: AllowOption = ()


@dataclasses.dataclass(frozen=True)
class Hosts:
    """Which processes compute together.

    Attributes:
      multihost: compute on all hosts of a TPU pod slice together (or of a cluster whose scheduler JAX knows): start the
        same command on each.
      coordinator: compute on several other machines together: address of the first one, which all can reach.
      process: which of them this is, 0/2 on the first of two, and 1/2 on the other.
      hang_seconds: a process that is killed, or hangs so long, ends all; 20 times as long while it compiles or saves.
    """

    multihost: Flag = False
    coordinator: Annotated[str | None, option("HOST:PORT")] = None
    process: Annotated[str | None, option("I/N")] = None
    hang_seconds: float = HANG_SECONDS

    @property
    def asked(self) -> bool:
        """Whether there are others."""
        return self.multihost or self.coordinator is not None or self.process is not None


@dataclasses.dataclass(frozen=True)
class DevicesOnHosts(Hosts, Devices):
    """Which devices are used, and for what, on one host or several."""


@dataclasses.dataclass(frozen=True)
class RunningOnHosts(Hosts, Running):
    """How a run is carried out, on one host or several."""


@dataclasses.dataclass(frozen=True)
class RunningFolds(Running):
    """How many trainings are carried out.

    Attributes:
      fold_strategy: trainings in turn (loop), in one program (vmap), over devices (shard), or as is fastest (auto).
    """

    fold_strategy: FoldStrategy = "auto"


@dataclasses.dataclass(frozen=True)
class RunningFoldsOnHosts(Hosts, RunningFolds):
    """How many trainings are carried out, on one host or several."""


@dataclasses.dataclass(frozen=True)
class RunningSearch(RunningFolds):
    """As `RunningFolds`.

    Attributes:
      memory: for trainings side by side; by default a quarter of the device's, or 4 GiB.
    """

    memory: Annotated[float | None, option("GIB")] = None


Training = _options(Plan, augment=tuple[str, ...])
Choosing = _options(Searching, inner_splitter=None, selection=Selection, criterion=Criterion, nested=Flag)
Choosing.__doc__ = """How the space is searched.

Attributes:
  strategy: all combinations (grid), --trials draws (random), or the better ones for longer and longer (halving).
  trials: configurations to draw.
  eta: halving goes on with one of so many, for so many times the epochs.
  inner_folds: number of inner folds, which choose.
  selection: take the best mean, or the simplest configuration within one standard error of it.
  criterion: choose by the metric or by the loss; auto takes the metric where --metric is given, else the loss.
  nested: leave out the inner folds: the score is then of the folds that chose, and too good.
  seeds: trainings of each configuration, over which scores are averaged.
"""
Trying = _options(Recommending, epochs=Annotated[int | None, option("INT")])
SPLITTER = "auto (by classes and groups), a name (some need groups or times), or the folds of a split.npz."
Division = _options(Splitting, splitter=Annotated[Splitter, tyro.conf.arg(help=SPLITTER)])


@dataclasses.dataclass(frozen=True)
class Dividing(Division):
    """How the examples are divided.

    Attributes:
      folds: number of folds, in each repeat; combinatorial-purged: of blocks of time. leave-… and holdout have their
        own number.
    """

    folds: int = 5


ReadingOptions = tyro.conf.OmitArgPrefixes[Reading]
ExamplesOptions = tyro.conf.OmitArgPrefixes[Examples]
UntrainedOptions = tyro.conf.OmitArgPrefixes[Untrained]
StartOptions = tyro.conf.OmitArgPrefixes[Start]
SubjectOptions = tyro.conf.OmitArgPrefixes[Subject]
DevicesOptions = tyro.conf.OmitArgPrefixes[Devices]
RunningOptions = tyro.conf.OmitArgPrefixes[Running]
DevicesOnHostsOptions = tyro.conf.OmitArgPrefixes[DevicesOnHosts]
RunningOnHostsOptions = tyro.conf.OmitArgPrefixes[RunningOnHosts]
RunningFoldsOnHostsOptions = tyro.conf.OmitArgPrefixes[RunningFoldsOnHosts]
RunningFoldsOptions = tyro.conf.OmitArgPrefixes[RunningFolds]
RunningSearchOptions = tyro.conf.OmitArgPrefixes[RunningSearch]
TrainingOptions = tyro.conf.OmitArgPrefixes[Training]
ChoosingOptions = tyro.conf.OmitArgPrefixes[Choosing]
DivisionOptions = tyro.conf.OmitArgPrefixes[Division]
RecommendingOptions = tyro.conf.OmitArgPrefixes[Trying]
DividingOptions = tyro.conf.OmitArgPrefixes[Dividing]


def splitting_of(dividing: Any) -> Splitting:
    """The splitter with its options, of `Division` or `Dividing`."""
    return Splitting(**{field.name: getattr(dividing, field.name) for field in dataclasses.fields(Splitting)})


registry = tyro.constructors.ConstructorRegistry()


@registry.primitive_rule
def _choice(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Choices are listed in the help but checked by the package, whose message names the nearest; AdamW is adamw."""
    if get_origin(info.type) is not Literal:
        return None
    spelled = {str(choice).casefold(): choice for choice in get_args(info.type)}
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(get_args(info.type)) + "}",
        instance_from_str=lambda given: spelled.get(given[0].casefold(), given[0]),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )


@registry.primitive_rule
def _number(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """A message about what is no number speaks of numbers, not of Python's ``int()``."""
    if info.type not in (int, float):
        return None
    kind, expected = info.type, "a whole number" if info.type is int else "a number"

    def read(given: list[str]) -> Any:
        try:
            return kind(given[0])
        except ValueError:
            raise ValueError(f"'{given[0]}' is not {expected}") from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int | kind) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
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


@registry.primitive_rule
def _class_weights(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """``balanced``, or ``rare=5 common=1`` to a dict."""
    if info.type != ClassWeights:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="balanced|CLASS=FACTOR ...",
        instance_from_str=lambda given: given[0] if len(given) == 1 and "=" not in given[0] else _parse_factors(given),
        is_instance=lambda value: value is None or isinstance(value, str | Mapping),
        str_from_instance=lambda value: [str(value)],
    )


def _parse_factors(given: Sequence[str]) -> dict[str, float]:
    factors = {}
    for item in given:
        stage, _, factor = item.rpartition("=")
        if stage in factors:
            raise InputError(f"'{stage}' has two factors; expected one")
        try:
            factors[stage] = float(factor)
        except ValueError:
            raise InputError(f"'{item}' has no factor; expected for example head=10") from None
    return factors


def parse_void(given: str) -> Any:
    """``none``, a number, a colour ``R,G,B``, or the name of a class."""
    if given == "none":
        return None
    numbers = given.split(",")
    if all(number.strip().isdigit() for number in numbers):
        return int(given) if len(numbers) == 1 else tuple(map(int, numbers))
    return given


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


@registry.primitive_rule
def _path(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """A folder in a bucket keeps the two slashes of its name, of which a plain path leaves one."""
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda given: as_named(given[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )
