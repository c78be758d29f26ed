"""Measures that people know from elsewhere, and that no view can have: what to declare in their place.

Of a measure every merge must give the same bytes, whatever the order and the grouping, or batch and speed would differ.
"""

from __future__ import annotations

from typing import Any, NoReturn

from contract.errors import CatalogueError


class TopK:
    """The most frequent values."""

    def __init__(self, name: str, *_: Any, **__: Any) -> None:
        _refuse(name, "what a top-k keeps depends on the order; make the value a key, and ORDER BY … LIMIT k in SQL")


class TDigest:
    """Percentiles by centroids."""

    def __init__(self, name: str, *_: Any, **__: Any) -> None:
        _refuse(name, "a t-digest's centroids depend on the order of its values; Quantiles has percentiles within 1.1 %")


def _refuse(name: str, why: str) -> NoReturn:
    raise CatalogueError(f"measure {name}: {why}")
