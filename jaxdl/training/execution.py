"""How a run is executed."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxdl.checks import check_fields
from jaxdl.data.memory import must_stream
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.parallel.layout import Layout
from jaxdl.training.features import DataStore
from jaxdl.training.resume import STATE, RunFolder


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a run is executed; nothing changes the numbers but the image size, and `layout` what `pmap` draws at random.

    Attributes:
      image_size: side in pixels that images are resized to; by default the checkpoint's, or the images' own.
      streaming: read the examples in each epoch instead of keeping them in memory; by default if they do not fit.
      workers: processes that decode what is streamed; 0 for a thread of this one.
      work: folder where the state of the run is kept. The same call goes on from there after an interruption, and ends
        with the very numbers of a call that was never interrupted; what was finished is not run again.
      progress: whether to show a bar: by default in a terminal or a notebook, False for none, True everywhere. Or a
        function, which is called with each row of the learning curves instead.
      on_steps: called with the number of steps (of a training) that were just taken.
      on_expected: called with the number of steps that are to come, where another part of the work begins.
      layout: which devices are used, and for what.
      remat: keep of each stage only what flows into it, and compute the rest again in the backward pass: less memory,
        about a third more time.
      fold_strategy: ``loop`` (one training after another), ``vmap`` (all in one program), ``shard`` (over devices;
        where these are more than the folds and a step draws nothing at random, several share a fold), or ``auto``.
      memory: bytes that trainings side by side may take; by default a quarter of the device's, or 4 GiB.
      keep_models: whether a result holds the folds' networks.
      allow: leaks to go on with: ``groups``, ``times``, ``duplicates``, ``near-duplicates``, ``frames``, ``parent``,
        ``labels``, ``identity-columns``, ``time-columns``, ``target-columns``. The result says what they came to.
      store: where several calls with the same source keep what they have in common, such as frozen stages' activations.
    """

    image_size: int | None = None
    streaming: bool | None = None
    workers: int = 2
    work: str | Path | RunFolder | None = None
    progress: Callable[[Mapping[str, Any]], None] | bool | None = None
    on_steps: Callable[[int], None] | None = None
    on_expected: Callable[[int], None] | None = None
    layout: Layout = Layout()  # noqa: RUF009
    remat: bool = False
    fold_strategy: str = "auto"
    memory: int | None = None
    keep_models: bool = False
    allow: Iterable[str] = ()
    store: DataStore | None = None

    def __post_init__(self) -> None:
        if isinstance(self.allow, str):
            object.__setattr__(self, "allow", (self.allow,))
        check_fields(self)
        object.__setattr__(self, "allow", tuple(self.allow))
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"the image size is {self.image_size}; expected at least 1 pixel")
        if self.workers < 0:
            raise InputError(f"workers is {self.workers}; expected 0 or more")
        if self.memory is not None and self.memory <= 0:
            raise InputError(f"memory is {self.memory}; expected more than 0 bytes")
        if isinstance(self.work, str | Path):
            object.__setattr__(self, "work", RunFolder(self.work))

    def replace(self, **changed: Any) -> "Execution":
        """The same with the fields in `changed`."""
        return dataclasses.replace(self, **changed)

    def tell(self, row: Mapping[str, Any]) -> None:
        """Calls `progress` with a row, if it is a function."""
        if callable(self.progress):
            self.progress(row)

    def expect(self, steps: int) -> None:
        """Calls `on_expected`, if there is one."""
        if self.on_expected is not None:
            self.on_expected(steps)

    def why_streamed(self, source: Source, preprocessing: Preprocessing) -> str | None:
        """Why the examples are streamed; None where they are kept in memory."""
        if self.streaming is None:
            return must_stream(source, preprocessing)
        return "asked for" if self.streaming else None

    def below(self, name: str) -> "Execution":
        """For a run that is part of this one: its state is kept in a folder below."""
        if self.work is None:
            return self
        work = self.work
        inner = RunFolder(work.path / STATE / name, save_every=work.save_every, should_stop=work.should_stop)
        return self.replace(work=inner)

    def remembering(self) -> "Execution":
        """With the streaming of the run's first start: what fits in memory may differ from hour to hour."""
        known = self.work.recall("streaming", bool) if self.work else None
        return self if known is None else self.replace(streaming=known)

    def remember(self, streamed: bool) -> None:
        """Keeps for `remembering` whether the examples are streamed."""
        if self.work and self.work.recall("streaming", bool) is None:
            self.work.note("streaming", streamed)
