"""A question starts quickly: nothing is imported for it that it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"polars", "numba", "pyarrow", "numpy", "msgspec", "confluent_kafka", "hdfs", "requests", "rich"}


def modules_of(code: str) -> set[str]:
    """Which of the heavy packages a fresh Python has after `code`."""
    told = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}} & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_main_of_serving_needs_no_library_to_read_its_arguments():
    assert modules_of("import serving.__main__ as main; main._parser()") == set()


@pytest.mark.parametrize(("format_name", "needed"), [("csv", set()), ("json", set()), ("table", {"rich"})])
def test_a_question_needs_the_database_and_the_form_of_its_answer(format_name: str, needed: set[str]):
    assert (
        modules_of(
            "import io\n"
            "from serving.database import connect\n"
            "from serving.query import Result, write_result\n"
            f"write_result(Result(('a',), (23,), [('1',)]), {format_name!r}, io.StringIO())"
        )
        == needed
    )


def test_status_decodes_no_events():
    assert not modules_of("import serving.report, serving.status") & {"polars", "numba"}
