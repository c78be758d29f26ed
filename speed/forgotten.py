"""What is forgotten, as a bolt knows it: asked for when a commit is refused because more was said, and then kept.

So the database is asked once a statement and not once a range, as with the filters of days.
"""

from __future__ import annotations

from collections.abc import Callable

from contract.forgotten import Rules
from contract.settings import Settings
from serving.database import Connection
from serving.forgotten import forgotten_rules


class Forgotten:
    """The rules that the last statement known here leads to; none are known at first."""

    def __init__(self, load: Callable[[], Rules] = Rules) -> None:
        self._load = load
        self.rules = Rules()

    @classmethod
    def of_database(cls, database: Callable[[], Connection], settings: Settings) -> Forgotten:
        """As the database has them; `database` gives a connection of role speed each time one is needed."""
        return cls(lambda: forgotten_rules(database(), settings))

    def refresh(self) -> None:
        """From now on all is known that was said until now. Raises ForgottenKeyLost."""
        self.rules = self._load()
