"""jaxdl: transfer learning in JAX whose results can be trusted."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdl import data
    from jaxdl.errors import InputError
    from jaxdl.models import MODELS, create
    from jaxdl.report.inspect import inspect
    from jaxdl.report.page import write_page
    from jaxdl.report.run_page import write_run_report
    from jaxdl.training.plan import Plan
    from jaxdl.training.predict import predict
    from jaxdl.training.range_test import find_learning_rate
    from jaxdl.training.resume import RunFolder
    from jaxdl.training.transfer import finetune, pretrain, train
    from jaxdl.validation.crossval import cross_validate
    from jaxdl.validation.ensemble import EnsembleCheckpoint, ensemble
    from jaxdl.validation.ensemble_files import load_ensemble, save_ensemble
    from jaxdl.validation.learning_curve import learning_curve, load_learning_curve
    from jaxdl.validation.probes.frozen import extract_features, probe_checkpoint, with_head
    from jaxdl.validation.probes.probe import Probing, probe
    from jaxdl.validation.result import load_result
    from jaxdl.validation.search.result import load_search
    from jaxdl.validation.search.search import search
    from jaxdl.validation.search.space import Choice, LogUniform, Uniform
    from jaxdl.validation.splits import Splitting, load_split
    from jaxdl.validation.statistics.compare import compare
    from jaxdl.validation.variance import load_variance, variance
    from jaxdl.weights.checkpoint import Checkpoint, from_model, replace_head, restore, save
    from jaxdl.weights.convert import convert, export
    from jaxdl.weights.pretrained import load_pretrained

__all__ = [
    "MODELS",
    "Checkpoint",
    "Choice",
    "EnsembleCheckpoint",
    "InputError",
    "LogUniform",
    "Plan",
    "Probing",
    "RunFolder",
    "Splitting",
    "Uniform",
    "compare",
    "convert",
    "create",
    "cross_validate",
    "data",
    "ensemble",
    "export",
    "extract_features",
    "find_learning_rate",
    "finetune",
    "from_model",
    "inspect",
    "learning_curve",
    "load_ensemble",
    "load_learning_curve",
    "load_pretrained",
    "load_result",
    "load_search",
    "load_split",
    "load_variance",
    "predict",
    "pretrain",
    "probe",
    "probe_checkpoint",
    "replace_head",
    "restore",
    "save",
    "save_ensemble",
    "search",
    "train",
    "variance",
    "with_head",
    "write_page",
    "write_run_report",
]

# Where each public name lives; it is imported when first used, so that `import jaxdl` costs next to nothing.
_PUBLIC = {
    "Checkpoint": "jaxdl.weights.checkpoint",
    "Choice": "jaxdl.validation.search.space",
    "EnsembleCheckpoint": "jaxdl.validation.ensemble",
    "InputError": "jaxdl.errors",
    "MODELS": "jaxdl.models",
    "Plan": "jaxdl.training.plan",
    "LogUniform": "jaxdl.validation.search.space",
    "Probing": "jaxdl.validation.probes.probe",
    "RunFolder": "jaxdl.training.resume",
    "Splitting": "jaxdl.validation.splits",
    "Uniform": "jaxdl.validation.search.space",
    "compare": "jaxdl.validation.statistics.compare",
    "convert": "jaxdl.weights.convert",
    "create": "jaxdl.models",
    "cross_validate": "jaxdl.validation.crossval",
    "data": "jaxdl.data",
    "ensemble": "jaxdl.validation.ensemble",
    "export": "jaxdl.weights.convert",
    "extract_features": "jaxdl.validation.probes.frozen",
    "find_learning_rate": "jaxdl.training.range_test",
    "from_model": "jaxdl.weights.checkpoint",
    "finetune": "jaxdl.training.transfer",
    "inspect": "jaxdl.report.inspect",
    "learning_curve": "jaxdl.validation.learning_curve",
    "load_ensemble": "jaxdl.validation.ensemble_files",
    "load_learning_curve": "jaxdl.validation.learning_curve",
    "load_pretrained": "jaxdl.weights.pretrained",
    "load_result": "jaxdl.validation.result",
    "load_search": "jaxdl.validation.search.result",
    "load_split": "jaxdl.validation.splits",
    "load_variance": "jaxdl.validation.variance",
    "predict": "jaxdl.training.predict",
    "pretrain": "jaxdl.training.transfer",
    "probe": "jaxdl.validation.probes.probe",
    "probe_checkpoint": "jaxdl.validation.probes.frozen",
    "replace_head": "jaxdl.weights.checkpoint",
    "restore": "jaxdl.weights.checkpoint",
    "save": "jaxdl.weights.checkpoint",
    "save_ensemble": "jaxdl.validation.ensemble_files",
    "search": "jaxdl.validation.search.search",
    "train": "jaxdl.training.transfer",
    "with_head": "jaxdl.validation.probes.frozen",
    "variance": "jaxdl.validation.variance",
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
