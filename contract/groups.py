"""Rows that belong together, by number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Groups:
    """Which of `count` groups each of n rows belongs to: `ids` has shape (n,), each in [0, count)."""

    ids: NDArray[np.int64]
    count: int

    def sums(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of each group the exact sum of its rows' numbers, of which there is one a row."""
        from contract.loops import grouping

        return grouping.sums(self.ids, self.count, numbers)

    @cached_property
    def together(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows, those of one group next to each other and in order, and the groups' count + 1 bounds in them."""
        from contract.loops import grouping

        return grouping.together(self.ids, self.count)
