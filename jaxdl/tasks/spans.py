"""How an answer in words is scored against those that are known, as in SQuAD (Rajpurkar et al., arXiv:1606.05250)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(answer: str) -> str:
    """In lower case, without punctuation and articles, with one space between words."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, known: Sequence[str]) -> float:
    """1 if the answer is one of those known, both normalised, else 0."""
    return float(any(normalised(answer) == normalised(one) for one in known))


def word_f1(answer: str, known: Sequence[str]) -> float:
    """The harmonic mean of precision and recall of its words, against the known answer for which it is largest.

    Of answers that have no word left, such as "the", it is 1 if both have none, else 0.
    """
    return max(_f1(normalised(answer).split(), normalised(one).split()) for one in known)


def _f1(said: Sequence[str], known: Sequence[str]) -> float:
    if not said or not known:
        return float(said == known)
    common = sum((Counter(said) & Counter(known)).values())
    return 2 * common / (len(said) + len(known))
