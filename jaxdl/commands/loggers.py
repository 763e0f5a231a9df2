"""Rows of the learning curves, sent to TensorBoard or Weights & Biases as they come."""

import os
import secrets
import time
from collections.abc import Mapping
from typing import Any, Protocol

from jaxdl.errors import InputError
from jaxdl.training.resume import RunFolder
from jaxdl.weights.buckets import BucketPath

TENSORBOARD, WANDB = "tensorboard", "wandb"  # folders below that of the run


class Logger(Protocol):
    """Is called with each row; `close` writes what is left."""

    def __call__(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row can be drawn over steps."""
    plain = {k: v for k, v in row.items() if isinstance(v, int | float) and k not in ("fold", "step")}
    return plain | {f"grad_norm/{stage}": norm for stage, norm in row.get("stage_grad_norms", {}).items()}


class TensorBoard:
    """Event files in the run's folder, one set per fold. What an interrupted run wrote past its last save is purged.

    Raises:
      InputError: if tensorboardX is not installed, or the folder is in a bucket, where nothing can be appended.
    """

    def __init__(self, run: RunFolder):
        if isinstance(run.path, BucketPath):
            raise InputError(
                f"--tensorboard appends to files, which a bucket cannot ('{run.path}'); leave it out: the page "
                "report.html draws the curves"
            )
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise InputError("--tensorboard needs tensorboardX: pip install tensorboardX") from error
        self._open, self._run = SummaryWriter, run
        self._writers: dict[Any, Any] = {}

    def __call__(self, row: Mapping[str, Any]) -> None:
        fold = row.get("fold")
        if fold not in self._writers:
            folder = self._run.path / TENSORBOARD
            self._writers[fold] = self._open(
                str(folder if fold is None else folder / f"fold-{fold}"),
                purge_step=row["step"],
                filename_suffix=f".{time.time_ns()}",  # the name holds seconds; two runs in one would share a file
            )
        for name, value in _numbers(row).items():
            self._writers[fold].add_scalar(name, value, row["step"])
        self._writers[fold].flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class WeightsAndBiases:
    """One run of Weights & Biases, gone on with when the run's folder is.

    What an interrupted run sent past its last save is sent again, at the same steps: nothing there can be taken back.

    Args:
      project: there.
      run: the folder; it keeps the other side's files (of one in a bucket the folder wandb here), and its name is the
        run's.
      options: of the run, to be shown beside the curves.

    Raises:
      InputError: if wandb is not installed, or cannot log in.
    """

    def __init__(self, project: str, run: RunFolder, options: Mapping[str, Any]):
        try:
            import wandb
        except ImportError as error:
            raise InputError("--wandb needs the package wandb: pip install wandb") from error
        self._wandb, self._project, self._run, self._options = wandb, project, run, options
        self._logged: Any = None
        if os.environ.get("WANDB_MODE", "online") == "online":
            try:
                wandb.login()  # now, not when the first epoch has been trained
            except wandb.errors.Error as error:
                raise InputError(f"wandb cannot log in: {error} (WANDB_MODE=offline needs no login)") from error

    def __call__(self, row: Mapping[str, Any]) -> None:
        if self._logged is None:
            self._logged = self._begin()
        before = "" if "fold" not in row else f"fold-{row['fold']}/"
        self._logged.define_metric(f"{before}*", step_metric=f"{before}step")
        self._logged.log({f"{before}{k}": v for k, v in _numbers(row).items()} | {f"{before}step": row["step"]})

    def _begin(self) -> Any:
        """Begins at the first row: before it the run may still be refused, or be finished already."""
        name = self._run.recall(WANDB, str) or secrets.token_hex(8)
        self._run.note(WANDB, name)
        try:
            return self._wandb.init(
                project=self._project,
                id=name,
                name=self._run.path.name,
                dir=None if isinstance(self._run.path, BucketPath) else self._run.path,
                config=dict(self._options),
                resume="allow",
            )
        except self._wandb.errors.Error as error:
            raise InputError(f"wandb cannot start: {error}") from error

    def close(self) -> None:
        if self._logged is not None:
            self._logged.finish()
