"""Files come in lines with byte offsets, in bounded memory; a file that cannot be used says why in one line."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from contract.errors import InputError
from ingest.lines import InputFile
from ingest.pieces import CUT_LINE_BYTES
from tests.fixtures.log_corpus import lines_in


def lines_of(path: Path) -> list[tuple[int, bytes]]:
    with InputFile(path) as file:
        return lines_in(file)


@pytest.mark.parametrize(
    "length", [CUT_LINE_BYTES - 1, CUT_LINE_BYTES, CUT_LINE_BYTES + 1, CUT_LINE_BYTES + 2, 300_000, 10_000_000]
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_long_line_is_cut_and_the_next_keeps_its_offset(tmp_path: Path, length: int, end: bytes):
    file = tmp_path / "log"
    file.write_bytes(b"a\n" + b"x" * length + end + b"after")
    tracemalloc.start()
    found = lines_of(file)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [offset for offset, _ in found] == [0, 2, 2 + length + len(end)]
    assert [line for _, line in found] == [b"a", b"x" * min(length, CUT_LINE_BYTES), b"after"]
    assert peak_bytes < 2_000_000


def test_what_is_no_file_says_why(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        InputFile(tmp_path)
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        InputFile(tmp_path / "none")


def test_a_damaged_gzip_file_says_how_far_it_was_read(tmp_path: Path):
    file = tmp_path / "log.gz"
    file.write_bytes(gzip.compress(b"".join(b"line %d\n" % number for number in range(200_000)))[:-2_000])
    with pytest.raises(InputError, match=r"breaks off or is damaged after byte [0-9]{5,} of its text"):
        lines_of(file)
