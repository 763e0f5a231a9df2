"""jaxdl: transfer learning in JAX whose results can be trusted."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdl import data
    from jaxdl.errors import InputError
    from jaxdl.models import MODELS, create, register_model
    from jaxdl.models.staged import Staged
    from jaxdl.models.wrapped import wrap
    from jaxdl.parallel.layout import Layout
    from jaxdl.report.inspect import inspect
    from jaxdl.report.page import write_page
    from jaxdl.report.run_page import write_run_report
    from jaxdl.tasks import Classification, MultiLabel, MultiTarget, Ordinal, Regression, Task, register_task
    from jaxdl.training.execution import Execution
    from jaxdl.training.plan import Plan
    from jaxdl.training.predict import predict
    from jaxdl.training.range_test import find_learning_rate
    from jaxdl.training.resume import RunFolder
    from jaxdl.training.transfer import finetune, pretrain, train
    from jaxdl.validation.crossval import cross_validate
    from jaxdl.validation.ensemble import EnsembleCheckpoint, ensemble
    from jaxdl.validation.ensemble_files import load_ensemble, save_ensemble
    from jaxdl.validation.learning_curve import learning_curve, load_learning_curve
    from jaxdl.validation.probes.embed import embed
    from jaxdl.validation.probes.frozen import extract_features, probe_checkpoint, with_head
    from jaxdl.validation.probes.probe import Probing, probe
    from jaxdl.validation.recommend.recommend import Recommending, recommend
    from jaxdl.validation.result import load_result
    from jaxdl.validation.search.result import load_search
    from jaxdl.validation.search.search import Searching, search
    from jaxdl.validation.search.space import Choice, LogUniform, Uniform
    from jaxdl.validation.splits import Splitting, load_split
    from jaxdl.validation.statistics.compare import compare
    from jaxdl.validation.statistics.intervals import interval
    from jaxdl.validation.variance import load_variance, variance
    from jaxdl.weights.adapt import merge_adapter
    from jaxdl.weights.checkpoint import Checkpoint, from_model, replace_head, restore, save
    from jaxdl.weights.convert import convert
    from jaxdl.weights.export import export
    from jaxdl.weights.pretrained import load_pretrained

__all__ = [
    "MODELS",
    "Checkpoint",
    "Choice",
    "Classification",
    "EnsembleCheckpoint",
    "Execution",
    "InputError",
    "Layout",
    "LogUniform",
    "MultiLabel",
    "MultiTarget",
    "Ordinal",
    "Plan",
    "Probing",
    "Recommending",
    "Regression",
    "RunFolder",
    "Searching",
    "Splitting",
    "Staged",
    "Task",
    "Uniform",
    "compare",
    "convert",
    "create",
    "cross_validate",
    "data",
    "embed",
    "ensemble",
    "export",
    "extract_features",
    "find_learning_rate",
    "finetune",
    "from_model",
    "inspect",
    "interval",
    "learning_curve",
    "load_ensemble",
    "load_learning_curve",
    "load_pretrained",
    "load_result",
    "load_search",
    "load_split",
    "load_variance",
    "merge_adapter",
    "predict",
    "pretrain",
    "probe",
    "probe_checkpoint",
    "recommend",
    "register_model",
    "register_task",
    "replace_head",
    "restore",
    "save",
    "save_ensemble",
    "search",
    "train",
    "variance",
    "with_head",
    "wrap",
    "write_page",
    "write_run_report",
]

# Where each public name lives; it is imported when first used, so that `import jaxdl` costs next to nothing.
_PUBLIC = {
    "Checkpoint": "jaxdl.weights.checkpoint",
    "Choice": "jaxdl.validation.search.space",
    "Classification": "jaxdl.tasks",
    "compare": "jaxdl.validation.statistics.compare",
    "convert": "jaxdl.weights.convert",
    "create": "jaxdl.models",
    "cross_validate": "jaxdl.validation.crossval",
    "data": "jaxdl.data",
    "embed": "jaxdl.validation.probes.embed",
    "ensemble": "jaxdl.validation.ensemble",
    "EnsembleCheckpoint": "jaxdl.validation.ensemble",
    "Execution": "jaxdl.training.execution",
    "export": "jaxdl.weights.export",
    "extract_features": "jaxdl.validation.probes.frozen",
    "find_learning_rate": "jaxdl.training.range_test",
    "finetune": "jaxdl.training.transfer",
    "from_model": "jaxdl.weights.checkpoint",
    "InputError": "jaxdl.errors",
    "inspect": "jaxdl.report.inspect",
    "interval": "jaxdl.validation.statistics.intervals",
    "Layout": "jaxdl.parallel.layout",
    "learning_curve": "jaxdl.validation.learning_curve",
    "load_ensemble": "jaxdl.validation.ensemble_files",
    "load_learning_curve": "jaxdl.validation.learning_curve",
    "load_pretrained": "jaxdl.weights.pretrained",
    "load_result": "jaxdl.validation.result",
    "load_search": "jaxdl.validation.search.result",
    "load_split": "jaxdl.validation.splits",
    "load_variance": "jaxdl.validation.variance",
    "LogUniform": "jaxdl.validation.search.space",
    "merge_adapter": "jaxdl.weights.adapt",
    "MODELS": "jaxdl.models",
    "MultiLabel": "jaxdl.tasks",
    "MultiTarget": "jaxdl.tasks",
    "Ordinal": "jaxdl.tasks",
    "Plan": "jaxdl.training.plan",
    "predict": "jaxdl.training.predict",
    "pretrain": "jaxdl.training.transfer",
    "probe": "jaxdl.validation.probes.probe",
    "probe_checkpoint": "jaxdl.validation.probes.frozen",
    "Probing": "jaxdl.validation.probes.probe",
    "recommend": "jaxdl.validation.recommend.recommend",
    "Recommending": "jaxdl.validation.recommend.recommend",
    "register_model": "jaxdl.models",
    "register_task": "jaxdl.tasks",
    "Regression": "jaxdl.tasks",
    "replace_head": "jaxdl.weights.checkpoint",
    "restore": "jaxdl.weights.checkpoint",
    "RunFolder": "jaxdl.training.resume",
    "save": "jaxdl.weights.checkpoint",
    "save_ensemble": "jaxdl.validation.ensemble_files",
    "search": "jaxdl.validation.search.search",
    "Searching": "jaxdl.validation.search.search",
    "Splitting": "jaxdl.validation.splits",
    "Staged": "jaxdl.models.staged",
    "Task": "jaxdl.tasks",
    "train": "jaxdl.training.transfer",
    "Uniform": "jaxdl.validation.search.space",
    "variance": "jaxdl.validation.variance",
    "with_head": "jaxdl.validation.probes.frozen",
    "wrap": "jaxdl.models.wrapped",
    "write_page": "jaxdl.report.page",
    "write_run_report": "jaxdl.report.run_page",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'jaxdl' has no attribute '{name}'")
    module = importlib.import_module(_PUBLIC[name])
    return module if name == "data" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
