"""What makes a number too good: found before anything is trained, and refused unless it is allowed by name."""

from jaxdl.validation.leakage.checks import LEAKS, Leak, check_leaks, check_validation
from jaxdl.validation.leakage.duplicates import duplicate_groups
from jaxdl.validation.leakage.wording import alike_texts

__all__ = ["LEAKS", "Leak", "alike_texts", "check_leaks", "check_validation", "duplicate_groups"]
