"""Loops over the bytes of many records, compiled to machine code by Numba, for what columns of numpy take too long.

A compiled function has one signature, so it is compiled when its module is imported, and read from a cache later: a folder
in NUMBA_CACHE_DIR, else in `__pycache__`. Bounds are not checked, except in the unit tests, by NUMBA_BOUNDSCHECK=1.
Numba takes more than a second to load: modules that have such functions are imported where they are needed first.
`python -m contract.compiled` compiles all.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types

import contract

F = TypeVar("F", bound=Callable[..., object])


_config: Any = numba.config


def _cache_folder() -> Path:
    """A folder for exactly these sources: Numba's cache sees a changed file, but not that a function or constant which
    another file imports from it has changed."""
    here = Path(__file__).parent
    sources = [here / "compiled.py", *sorted(here.glob("loops/*.py")), *sorted(here.glob("sketches/*.py"))]
    digest = sha256(b"checked" if _config.BOUNDSCHECK else b"")
    for source in sources:
        digest.update(source.read_bytes())
    folder, name = Path(_config.CACHE_DIR or here / "__pycache__"), digest.hexdigest()[:16]
    # Run as a program, this module is there twice, and the second finds what the first has set.
    return folder if folder.name == name else folder / name


_config.CACHE_DIR = str(_cache_folder())


def read_only(item: types.Type) -> types.Array:
    """The type of a contiguous array of one dimension that is only read; one that could be written is taken too."""
    return types.Array(item, 1, "C", readonly=True)


def pair(first: types.Type, second: types.Type) -> types.Type:
    """The type of two results."""
    return types.Tuple((first, second))  # type: ignore[no-untyped-call]


def compiled(signature: object) -> Callable[[F], F]:
    """Compile a function of exactly these types of arguments; it holds no interpreter lock while it runs."""
    decorator = numba.njit(signature, cache=True, nogil=True, error_model="numpy")
    return cast(Callable[[F], F], decorator)


def load_all() -> None:
    """Every compiled function is ready afterwards, so no first call has to wait."""
    for module in pkgutil.walk_packages(contract.__path__, "contract."):
        import_module(module.name)


if __name__ == "__main__":
    load_all()
