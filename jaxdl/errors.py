"""Errors that a user can act on."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

COUNTED = (
    "example result fold group image file row column label mask network training configuration seed split size step "
    "epoch tensor prediction channel name model entry argument value block stage layer part time point parameter number"
)


ONE = {f"{noun}s": noun for noun in COUNTED.split()} | {"classes": "class", "copies": "copy", "indices": "index"}
MANY = re.compile(rf"(\bare )?(?<![\w.,+-])1 ((?:training |test |held-out )?)({'|'.join(ONE)})\b")


DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # that turn the text around


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names the thing, its value, what was expected and what to do. The command line prints it
    alone and exits with code 2; in Python it is an ordinary ``ValueError``.

    Args:
      message: the problem, with what to do unless that is said apart.
      advice: what to do, where the problem may also be reported without it.

    Attributes:
      problem: the message without the advice.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        message, advice = (without_controls(singular(text)) for text in (message, advice))
        super().__init__(f"{message}; {advice}" if advice else message)
        self.problem = message


def singular(text: str) -> str:
    """`text` with ``1 example`` in place of ``1 examples``, and so with whatever else is counted."""
    return MANY.sub(lambda found: f"{'is ' if found[1] else ''}1 {found[2]}{ONE[found[3]]}", text)


def nearest(value: object, choices: Iterable[object]) -> str:
    """``" Did you mean 'x'?"`` for the choice most like `value`, or nothing if none is alike."""
    spelled = {str(choice).casefold(): choice for choice in choices}
    close = difflib.get_close_matches(str(value).casefold(), spelled, n=1, cutoff=0.5)
    return f" Did you mean '{spelled[close[0]]}'?" if close else ""


def check_choice(what: str, value: object, choices: Iterable[object]) -> None:
    """Raises InputError unless `value` is one of `choices`; the message lists them and names the nearest."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(str(choice) for choice in choices)
        raise InputError(f"unknown {what} '{value}'; expected one of: {listed}.{nearest(value, choices)}")


def without_controls(text: str, kept: str = "\n\t") -> str:
    """A text in which all characters but `kept` that control a terminal, or turn its direction, are written out."""
    if text.isprintable():
        return text
    return "".join(c if c in kept or not _controls(c) else _escaped(c) for c in text)


def _controls(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in DIRECTIONS


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
