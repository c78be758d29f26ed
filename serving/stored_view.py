"""Versions of views: one that is added or changed gets tables beside the old ones, and is shown with its whole history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from contract.errors import SchemaMismatch
from contract.views import VIEWS, View
from serving.database import Connection


@dataclass(frozen=True)
class StoredView(View):
    """A view and the version under which its rows are stored. Readers see it if it is `shown`, under one name for all."""

    version: int = 1
    shown: bool = True

    @classmethod
    def of(cls, view: View, version: int = 1, shown: bool = True) -> StoredView:
        """The view in a version."""
        return cls(**{field.name: getattr(view, field.name) for field in fields(View)}, version=version, shown=shown)

    @property
    def stored_name(self) -> str:
        """What the names of its tables and indexes are made of."""
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"


def first_versions(views: Iterable[View] = VIEWS) -> tuple[StoredView, ...]:
    """What a new database has, once all is shown."""
    return tuple(map(StoredView.of, views))


def stored_versions(database: Connection, views: Sequence[View]) -> tuple[StoredView, ...]:
    """The version of each view that the database has, or is to get.

    A version stays as long as its view does not change. One that was left is not taken up again, since commits went on
    without it. Raises SchemaMismatch.
    """
    row = database.execute("SELECT to_regclass('serving.view_version')").fetchone()
    if row == (None,):
        return tuple(StoredView.of(view, shown=_is_stored(database, view)) for view in views)
    known = {
        name: (version, digest, state)
        for name, version, digest, state in database.execute(
            "SELECT DISTINCT ON (view_name) view_name, version, digest, state "
            "FROM serving.view_version ORDER BY view_name, version DESC"
        )
    }
    return tuple(_next_version(view, *known.get(view.name, (0, "", ""))) for view in views)


def _next_version(view: View, version: int, digest: str, state: str) -> StoredView:
    if digest == view.digest and state in ("building", "live"):
        return StoredView.of(view, version, state == "live")
    return StoredView.of(view, version + 1, shown=False)


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
