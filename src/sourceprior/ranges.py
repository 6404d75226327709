"""What values an option makes sense with, as part of its type: `floor: NonNegative`, or `Annotated[int, Range(2, 64)]`.

Solvers run with whatever Python hands them; `solver_choice.check_options` reads these types and refuses the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `low` itself is left out where `above` says so."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        """`of 0 or more`, `above 0`, `from 1 to 64`, as it goes on after "a number"."""
        if self.high < math.inf:
            return (
                f"above {self.low:g} and up to {self.high:g}" if self.above else f"from {self.low:g} to {self.high:g}"
            )
        return f"above {self.low:g}" if self.above else f"of {self.low:g} or more"


NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Count = Annotated[int, Range(0)]
AtLeastOne = Annotated[int, Range(1)]
