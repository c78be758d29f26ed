"""cut_log.py FOLDER TOPIC JSON: takes from logs of a broker that is down what a power failure would.

FOLDER is the broker's log.dirs, JSON an offset by partition. The batch that has this offset is left half written, nothing
after it is there, and neither are the segment's indexes: the broker's recovery throws the half batch away and makes them
anew. The file of leader epochs stays, because the broker flushes it. Prints where each log ends then, as JSON.
"""

import json
import os
import struct
import sys
from pathlib import Path

# Base offset, length of what follows, leader epoch, magic, checksum, attributes, last offset less base offset.
HEADER = struct.Struct(">qiibIhi")
BEFORE_LENGTH_COUNTS = 12


def cut(folder: Path, offset: int) -> int:
    segments = sorted(folder.glob("*.log"))
    segment = max(file for file in segments if int(file.stem) <= offset)
    for later in segments[segments.index(segment) + 1 :]:
        for file in folder.glob(f"{later.stem}.*"):
            file.unlink()
    for index in ("index", "timeindex", "txnindex"):
        segment.with_suffix(f".{index}").unlink(missing_ok=True)
    log, at = segment.read_bytes(), 0
    while at + HEADER.size <= len(log):
        base, length, *_, delta = HEADER.unpack_from(log, at)
        if base + delta >= offset:
            os.truncate(segment, at + (BEFORE_LENGTH_COUNTS + length) // 2)
            return int(base)
        at += BEFORE_LENGTH_COUNTS + length
    sys.exit(f"{segment} ends before offset {offset}")


root, topic, offsets = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
print(json.dumps({partition: cut(root / f"{topic}-{partition}", offset) for partition, offset in offsets.items()}))
