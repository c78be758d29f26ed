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
from numba.core import typeinfer
from numba.core.caching import FunctionCache

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


class _Cache(FunctionCache):
    """Numba's cache of a function, in which it is found by types and processor alone.

    The folder is of exactly these sources. Numba asks for the values of what a function closes over as well, and a compiled
    one among them has a number of its own in each process: such a function was found by nobody, and each process compiled
    it again and left a further file.
    """

    def _index_key(self, sig: object, codegen: Any) -> tuple[object, ...]:
        return sig, codegen.magic_tuple()


def compiled(signature: object, variant: str = "") -> Callable[[F], F]:
    """Compile a function of exactly these types of arguments; it holds no interpreter lock while it runs.

    Functions that differ in nothing but what they close over have each a `variant`, and so files of their own in the cache:
    in one index, processes that compile different ones at once put them into the same file, and one runs as the other.
    """

    def decorate(function: F) -> F:
        function.__qualname__ += variant
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
        dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
        # It may call itself.
        with typeinfer.register_dispatcher(dispatcher):
            dispatcher.compile(signature)
        dispatcher.disable_compile()
        return cast(F, dispatcher)

    return decorate


def load_all() -> None:
    """Every compiled function is ready afterwards, so no first call has to wait."""
    for module in pkgutil.walk_packages(contract.__path__, "contract."):
        import_module(module.name)


if __name__ == "__main__":
    load_all()
