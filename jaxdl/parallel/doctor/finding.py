"""Something that is misconfigured."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong, and what to do.

    Attributes:
      name: of the check, for programs.
      problem: a sentence without a full stop.
      command: for a shell; it mends the problem, or shows who causes it where only a person can decide.
    """

    name: str
    problem: str
    command: str
