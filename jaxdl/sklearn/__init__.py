"""Transfer learning as scikit-learn's estimators."""

from jaxdl.sklearn.estimators import TransferClassifier, TransferRegressor

__all__ = ["TransferClassifier", "TransferRegressor"]
