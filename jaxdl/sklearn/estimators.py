"""`TransferClassifier` and `TransferRegressor`: `training.transfer.finetune` behind fit and predict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from jaxdl.data.preprocessing import Preprocessing
from jaxdl.data.source import with_weights
from jaxdl.data.table import arrays
from jaxdl.errors import InputError
from jaxdl.identity import remembered
from jaxdl.models import MODELS, create
from jaxdl.models.staged import Staged
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.program import Program
from jaxdl.sklearn.plain import from_plain, to_plain
from jaxdl.tasks import Classification, Regression, Task
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import finetune
from jaxdl.weights.checkpoint import Checkpoint, restore

TOGETHER = 64  # examples that are predicted at a time, always: so a prediction does not depend on its neighbours


class _Transfer(BaseEstimator):
    """What both estimators share.

    Attributes:
      TASK: name of what is asked; see `tasks.TASKS`.
    """

    TASK: ClassVar[str]

    def __init__(
        self,
        init: str | Path | Checkpoint | Staged = "mlp",
        *,
        model_arguments: Mapping[str, Any] | None = None,
        head: str = "fresh",
        image_size: int | None = None,
        freeze_through: str | None = None,
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: str = "adamw",
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        weight_decay: float = 1e-4,
        stage_lr: Mapping[str, float] | None = None,
        augment: str | Sequence[str] = (),
        early_stopping: int | None = None,
        plan_options: Mapping[str, Any] | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.init = init
        self.model_arguments = model_arguments
        self.head = head
        self.image_size = image_size
        self.freeze_through = freeze_through
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.stage_lr = stage_lr
        self.augment = augment
        self.early_stopping = early_stopping
        self.plan_options = plan_options
        self.class_weight = class_weight
        self.random_state = random_state

    def _plan(self, class_weights: Mapping[str, float] | str | None = None) -> Plan:
        names = ("freeze_through", "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "weight_decay")
        own = {name: getattr(self, name) for name in (*names, "augment", "early_stopping")}
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31)
        more = dict(self.plan_options or {})
        own |= {} if class_weights is None else {"class_weights": class_weights}
        if twice := (own.keys() | {"stage_lr", "seed"}) & more.keys():
            raise InputError(f"plan_options names {', '.join(sorted(twice))}; set these as parameters of their own")
        return Plan(**own, stage_lr=dict(self.stage_lr or {}), seed=int(seed), **more)

    def _start(self, outputs: int) -> Init:
        if isinstance(self.init, Checkpoint | Staged):
            return self.init
        if str(self.init) in MODELS:
            return create(str(self.init), outputs, **(self.model_arguments or {}))
        return restore(self.init)

    def _train(
        self,
        x: np.ndarray,
        y: np.ndarray,
        outputs: int,
        class_names: list[str] | None,
        sample_weight: Any,
        class_weights: Mapping[str, float] | str | None = None,
    ) -> None:
        source = arrays(x, y, class_names=class_names, name="X", task=self.TASK)
        if sample_weight is not None:
            source = with_weights(source, _check_sample_weight(sample_weight, x, dtype=np.float64))
        execution = Execution(image_size=self.image_size, progress=False)
        start, plan = self._start(outputs), self._plan(class_weights)
        self.checkpoint_ = finetune(start, source, plan, task=self.TASK, head=self.head, execution=execution)
        self.history_ = list(self.checkpoint_.history)
        self.n_iter_ = len(self.history_)

    @property
    def _asked(self) -> Task:
        """What the network was asked."""
        return self.checkpoint_.card.task

    def _kept(self, X: Any) -> np.ndarray:
        """What the task keeps of the network's outputs, ``float32[n, outputs]``."""
        check_is_fitted(self)
        checkpoint, card = self.checkpoint_, self.checkpoint_.card
        stored = card.preprocessing.load(arrays(_checked(self, X, reset=False), name="X"))
        executor = Layout().executor()
        apply = _outputs(executor, checkpoint.model, card.preprocessing.unfitted())
        trained = executor.place_variables((checkpoint.variables, card.preprocessing.constants))
        found = []
        for first in range(0, len(stored), TOGETHER):
            part = stored[first : first + TOGETHER]
            padded = np.concatenate([part, np.repeat(part[:1], TOGETHER - len(part), axis=0)])
            found.append(np.asarray(apply(trained, padded))[: len(part)])
        return np.asarray(card.task.predict(jnp.asarray(np.concatenate(found)), card.target_constants()))

    def __getstate__(self) -> dict[str, Any]:
        """Plain values and arrays alone, so that loading runs nothing but numpy's own and this class's."""
        return {name: to_plain(value) for name, value in super().__getstate__().items()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__({name: from_plain(value) for name, value in state.items()})

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


@remembered(maxsize=64)
def _outputs(executor: Executor, model: Staged, preprocessing: Preprocessing) -> Program:
    """``((variables, constants), x) -> outputs[examples, …]``, compiled once for all estimators of a kind."""

    def apply(trained: tuple[Any, Any], x: Any) -> jax.Array:
        variables, constants = trained
        return model.apply(variables, preprocessing.on_device(x, constants)).astype("float32")

    return executor.forward(apply)


def _checked(estimator: _Transfer, X: Any, y: Any = "no_validation", *, reset: bool, numbers: bool = False) -> Any:
    """scikit-learn's own checks; images of bytes stay bytes."""
    options = {"allow_nd": True, "dtype": "numeric", "order": "C", "reset": reset}
    if isinstance(y, str):
        return validate_data(estimator, X, **options)
    return validate_data(estimator, X, y, y_numeric=numbers, ensure_min_samples=2, **options)


class TransferClassifier(ClassifierMixin, _Transfer):
    """Fine-tunes a network to predict a class.

    Args:
      init: what to start from: a `Checkpoint`, the path of one, a model, or the name of a model to train from scratch.
      model_arguments: of a model by name, such as ``{"hidden": (32,)}``.
      head: see `training.transfer.train`.
      image_size: see `training.setup.choose_preprocessing`.
      freeze_through: see `Plan`, as the following.
      epochs: see `Plan`.
      batch_size: see `Plan`.
      optimizer: see `Plan`.
      learning_rate: see `Plan`.
      schedule: see `Plan`.
      weight_decay: see `Plan`.
      stage_lr: see `Plan`.
      augment: see `Plan`.
      early_stopping: see `Plan`.
      plan_options: any other field of `Plan` by name.
      class_weight: factors on the loss by label, 1 for the others; or ``"balanced"``: inverse to how often each label
        occurs (or to the weight of its examples); None for none.
      random_state: of all random draws; the same number gives the same network. A generator is asked for one.

    ``X`` is a table ``[n, features]`` of numbers, or images ``[n, height, width, channels]`` of uint8 or float; ``y``
    holds labels of any type. scikit-learn's splitters know nothing of what a checkpoint was trained on, nor of copies
    among the examples: `validation.leakage.check_leaks` does.

    Attributes:
      classes_: labels in the order of the columns of `predict_proba`.
      checkpoint_: the trained network; ``jaxdl.save(model.checkpoint_, path)`` keeps it.
      history_: a dict for each epoch.
      n_iter_: number of epochs.
      n_features_in_: of a table the number of its columns (of images, as scikit-learn counts, their height).
    """

    TASK = Classification.name

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains on ``X`` with the labels ``y[n]``; `sample_weight` ``[n]`` as in `data.with_weights`.

        Raises:
          InputError: (a ValueError) if plan, model and data do not go together.
        """
        if np.asarray(y).ndim > 2:  # not np.ndim: it asks array-likes that are no arrays
            raise InputError(
                f"y has the shape {list(np.shape(y))}; a TransferClassifier learns one class for each example: for a "
                "class for each pixel use jaxdl.finetune and jaxdl.cross_validate"
            )
        x, y = _checked(self, X, y, reset=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y holds one class ({self.classes_[0]!r}); a classifier needs examples of at least two")
        names = [str(label) for label in self.classes_.tolist()]
        if len(set(names)) < len(names):
            names = [str(place) for place in range(len(names))]
        weights = _by_name(self.class_weight, self.classes_.tolist(), names)
        self._train(x, labels.astype(np.int32), len(names), names, sample_weight, weights)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, ``float[n, classes]``."""
        kept = self._kept(X)  # says so if the model is not fitted
        return self._asked.probabilities(kept)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each example."""
        kept = self._kept(X)
        return self.classes_[self._asked.predicted(kept)]


def _by_name(class_weight: Any, labels: list[Any], names: list[str]) -> Any:
    """`class_weight` with the names of classes in place of labels. Raises InputError for a label that is not there."""
    if not isinstance(class_weight, Mapping):
        return class_weight
    if foreign := [label for label in class_weight if label not in labels]:
        raise InputError(f"class_weight names {foreign[0]!r}, but y holds the labels {labels}")
    return {names[labels.index(label)]: float(factor) for label, factor in class_weight.items()}


class TransferRegressor(RegressorMixin, _Transfer):
    """Fine-tunes a network to predict a number; parameters and attributes as those of `TransferClassifier`."""

    TASK = Regression.name

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains on ``X`` with the numbers ``y[n]``; `sample_weight` ``[n]`` as in `data.with_weights`.

        Raises:
          InputError: (a ValueError) if plan, model and data do not go together.
        """
        x, y = _checked(self, X, y, reset=True, numbers=True)
        if self.class_weight is not None:
            raise InputError("class_weight is for labels; numbers have none: leave it out, or give fit a sample_weight")
        self._train(x, y.astype(np.float64), 1, None, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number that is predicted for each example, ``float[n]``."""
        kept = self._kept(X)
        return self._asked.predicted(kept)
