"""Versions of views: one that is added or changed gets tables beside the old ones, and is shown with its whole history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from contract.errors import SchemaMismatch
from contract.views import VIEWS, View, with_rollups
from serving.database import Connection


@dataclass(frozen=True)
class StoredView(View):
    """A view and the version under which its rows are stored. Readers see it if it is `shown`, under one name for all."""

    rollup_of: StoredView | None = None
    version: int = 1
    shown: bool = True

    @classmethod
    def of(cls, view: View, version: int = 1, shown: bool = True, rollup_of: StoredView | None = None) -> StoredView:
        """The view in a version; a rollup comes with the version that it is of."""
        declared = {field.name: getattr(view, field.name) for field in fields(View)} | {"rollup_of": rollup_of}
        return cls(**declared, version=version, shown=shown)

    @property
    def stored_name(self) -> str:
        """What the names of its tables and indexes are made of."""
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"


def first_versions(views: Sequence[View] = VIEWS) -> tuple[StoredView, ...]:
    """What a new database has, once all is shown: each view, and after it its rollup."""
    return _versions(views, lambda view: (1, True))


def stored_versions(database: Connection, views: Sequence[View]) -> tuple[StoredView, ...]:
    """The version of each view, and of its rollup, that the database has, or is to get.

    A version stays as long as its view does not change. One that was left is not taken up again, since commits went on
    without it. Raises SchemaMismatch.
    """
    row = database.execute("SELECT to_regclass('serving.view_version')").fetchone()
    if row == (None,):
        return _versions(views, lambda view: (1, _is_stored(database, view)))
    known = {
        name: (version, digest, state)
        for name, version, digest, state in database.execute(
            "SELECT DISTINCT ON (view_name) view_name, version, digest, state "
            "FROM serving.view_version ORDER BY view_name, version DESC"
        )
    }

    def next_version(view: View) -> tuple[int, bool]:
        version, digest, state = known.get(view.name, (0, "", ""))
        if digest == view.digest and state in ("building", "live"):
            return version, state == "live"
        return version + 1, False

    return _versions(views, next_version)


def _versions(views: Sequence[View], version_of: Callable[[View], tuple[int, bool]]) -> tuple[StoredView, ...]:
    """The views and their rollups, with what `version_of` says: the version, and whether it is shown."""
    stored: dict[str, StoredView] = {}
    for view in with_rollups(views):
        of = stored[view.rollup_of.name] if view.rollup_of else None
        stored[view.name] = StoredView.of(view, *version_of(view), of)
    return tuple(stored.values())


def _is_stored(database: Connection, view: View) -> bool:
    """Whether a database without versions has the view; CREATE TABLE IF NOT EXISTS would keep one with other columns."""
    stored = database.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'serving' AND table_name = %s",
        [f"batch_{view.name}"],
    ).fetchall()
    columns = {str(name) for (name,) in stored} - {"run_id", "keys_digest"}
    if columns and columns != set(view.schema.names()):
        raise SchemaMismatch.of_view(view.name, columns, set(view.schema.names()))
    return bool(columns)
