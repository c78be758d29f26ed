"""The glossary's words are where it says, in the code and in SQL, and it has what the architecture introduces."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.views import VIEWS, with_rollups

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
# A word, what it is, and where it is: "Code: …" and "SQL: …" at the end of its entry.
ENTRIES = {
    word: " ".join(text.split())
    for word, text in re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=^- |^#|\Z)", GLOSSARY, re.MULTILINE | re.DOTALL)
}
SQL = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "serving" / "sql").glob("*.sql")))


def places(kind: str) -> list[tuple[str, str]]:
    """Each word with each of its places in the code or in SQL."""
    found = []
    for word, text in ENTRIES.items():
        if marked := re.search(rf"\b{kind}: ((?:`[^`]+`(?:, )?)+)", text):
            found += [(word, place) for place in re.findall(r"`([^`]+)`", marked[1])]
    return found


def names_in(body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """What a module or a class defines, and what is inside of that."""
    for one in body:
        if isinstance(one, ast.ClassDef):
            yield one.name, one.body
        elif isinstance(one, ast.FunctionDef):
            yield one.name, []
        elif isinstance(one, ast.AnnAssign | ast.Assign):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            yield from ((name, []) for name in names)


def is_in_the_code(place: str) -> bool:
    if "/" in place:
        return (ROOT / place).is_file()
    names = place.split(".")
    for count in range(len(names), 1, -1):
        path = ROOT.joinpath(*names[:count]).with_suffix(".py")
        if path.is_file():
            body = ast.parse(path.read_text(encoding="utf-8")).body
            for name in names[count:]:
                if name not in (known := dict(names_in(body))):
                    return False
                body = known[name]
            return True
    return False


def is_in_sql(place: str) -> bool:
    schema, name, column = re.fullmatch(r"(?:(serving)\.)?(\w+)(?:\.(\w+))?", place).groups()  # type: ignore[union-attr]
    for view in with_rollups(VIEWS):
        if not schema and name == view.name:
            first = view.measures[0].name
            plain = {column.name for measure in view.measures for column in measure.plain}
            return column is None or column in {*view.group, *plain, f"batch_{first}", f"speed_{first}"}
    whole = re.escape(f"{schema or 'public'}.{name}")
    statements = re.findall(
        rf"^(?:(?:CREATE|ALTER)(?: OR REPLACE)? (?:TABLE|VIEW|FUNCTION|AGGREGATE)(?: IF NOT EXISTS)?) {whole}\b[^;]*;",
        SQL,
        re.MULTILINE,
    )
    return bool(statements) and (column is None or any(re.search(rf"\b{column}\b", one) for one in statements))


@pytest.mark.parametrize(("word", "place"), places("Code"))
def test_a_word_is_in_the_code_where_the_glossary_says(word: str, place: str):
    assert is_in_the_code(place), word


@pytest.mark.parametrize(("word", "place"), places("SQL"))
def test_a_word_is_in_sql_where_the_glossary_says(word: str, place: str):
    assert is_in_sql(place), word


def test_what_is_nowhere_is_not_found():
    assert not is_in_the_code("serving.handoff.Cut.generation")
    assert not is_in_the_code("speed/storm.py")
    assert not is_in_sql("serving.run.generation")
    assert not is_in_sql("ledger.sources")
    assert not is_in_sql("site_traffic.page")


def test_each_entry_is_short_and_says_where_it_is():
    assert len(ENTRIES) == GLOSSARY.count("\n- ") > 50
    assert {word for word, _ in places("Code") + places("SQL")} == set(ENTRIES)
    assert len(places("Code") + places("SQL")) == sum(
        len(re.findall(r"`[^`]+`", text[min(where) :]))
        for text in ENTRIES.values()
        if (where := [at for at in (text.find("Code: "), text.find("SQL: ")) if at >= 0])
    )
    # Two plain sentences, three at most.
    said = {word: re.split(r" (?:Code|SQL): ", text)[0] for word, text in ENTRIES.items()}
    assert [word for word, text in said.items() if len(re.findall(r"[.:;](?: |$)", text)) > 3] == []


def test_the_glossary_has_each_term_that_the_architecture_introduces():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    # Promises are numbered and bold, and no terms; neither is what is code.
    prose = re.sub(r"```.*?```|^- \*\*P\d\..*?\*\*|`[^`]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    terms = [" ".join(term.lower().split()) for term in re.findall(r"(?<![\w*])\*{1,2}([^*]+?)\*{1,2}(?![\w*])", prose)]
    also = {word for entry in ENTRIES.values() for word in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", entry)}
    terms = [re.sub(r"^(?:an?|the) |s$", "", term) for term in terms]
    assert len(set(terms)) > 15
    assert [term for term in terms if term not in {*ENTRIES, *also}] == []
