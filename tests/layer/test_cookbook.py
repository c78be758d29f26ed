"""docs/sql.md says what it says: each of its questions is asked, and has the answer that stands below it."""

from __future__ import annotations

import re

from contract.settings import Settings
from serving.database import Connection
from tests.fixtures.cookbook import DOC, answer, fill, questions
from tests.layer.test_serving_days import PANELS


def test_every_question_has_the_answer_that_the_page_has(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    fill(speed, batch)
    text = DOC.read_text(encoding="utf-8")
    asked = questions(text)
    assert re.findall(r"^### ([0-9]+)\. ", text, re.MULTILINE) == [str(n) for n in range(1, 22)]
    assert len(asked) > 21
    answers = [(question.sql, answer(reader, question.sql)) for question in asked]
    assert answers == [(question.sql, question.answer) for question in asked]
    # And no short cut of the module makes another one.
    reader.execute("SET braid.fewer_rows = off")
    assert [(question.sql, answer(reader, question.sql)) for question in asked] == answers


def test_the_page_has_the_conditions_for_panels_that_are_tested() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert [condition for condition in PANELS.values() if f"`{condition}`" not in text] == []


def test_the_page_names_every_function_of_ours(database: Settings, reader: Connection) -> None:
    rows = reader.execute(
        "SELECT DISTINCT proname FROM pg_proc AS p WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS "
        "(SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')"
    )
    text = DOC.read_text(encoding="utf-8")
    # Those of Bloom filters are in docs/add-a-view.md, where a view has one.
    generated = re.compile(r".*_(as_of|local_days)$|seen|hll_merge")
    missing = [name for (name,) in rows if f"{name}(" not in text and not generated.match(name)]
    assert missing == []
