"""What makes a number too good: found before anything is trained, and refused unless it is allowed by name."""

from jaxdl.validation.leakage.checks import LEAKS, Leak, check_leaks, check_validation
from jaxdl.validation.leakage.duplicates import contradictions, drop_contradictions, duplicate_groups
from jaxdl.validation.leakage.near_duplicate_texts import find_near_duplicate_texts

__all__ = [
    "LEAKS",
    "Leak",
    "check_leaks",
    "check_validation",
    "contradictions",
    "drop_contradictions",
    "duplicate_groups",
    "find_near_duplicate_texts",
]
