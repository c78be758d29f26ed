"""search_archive.py TEXT: how many files the archive has, then the path of each in whose rows the text is, a line each."""

import sys

from batch.archive import Archive
from contract.archive_file import decode
from contract.master import MASTER, QUARANTINE
from contract.settings import Settings

archive = Archive(Settings.from_env())
paths = [
    file.path(archive.root, dataset)
    for partition in archive.partitions()
    for dataset in (MASTER, QUARANTINE)
    for file in archive.listing(dataset, partition)
]
print(len(paths))
for path in paths:
    table, _ = decode(archive.read(path), path)
    if any(sys.argv[1] in str(some.to_pydict()) for some in table.to_batches(10_000)):
        print(path)
