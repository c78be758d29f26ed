#!/usr/bin/env bash
# Where several processes compile the same nested function at once, each with another value that it closes over, and share Numba's
# cache on disk, a later process may be given the machine code of another one: without an error it computes with another value.
#
# Seen with numba 0.68.1 (numpy 2.4.2), six processes that begin at one moment, `value + step` for six steps. Of twelve
# rounds three left such a cache (two cores):
#   step 3 of 0 is 6, from the cache
# Each process reads the index of the function's files, takes the first name that is free, writes the index and then the file
# (IndexDataCacheFile.save in numba/core/caching.py); of two that do so at once one's index names the other's file. Functions with
# a name for each value, or a cache folder for each process, do not meet.
#
# Needs python3 (3.11 to 3.14) with venv; works in a temporary folder, for some minutes. Ends with 1 if sixty rounds show nothing.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.2

cat >made.py <<'PY'
import sys, time
from numba import int64, njit


def made(step):
    @njit(int64(int64), cache=True)
    def stepped(value):
        return value + step

    return stepped


step, begin_s = int(sys.argv[1]), float(sys.argv[2])
while time.time() < begin_s:
    pass
stepped = made(step)
if not begin_s and stepped(0) != step:
    print(f"step {step} of 0 is {stepped(0)}" + ", from the cache" * sum(stepped.stats.cache_hits.values()))
PY

export NUMBA_CACHE_DIR=cache
for round in {1..60}; do
    rm -rf cache
    begin_s=$(($(date +%s) + 3))
    for step in 1 2 3 4 5 6; do venv/bin/python made.py "$step" "$begin_s" & done
    wait
    wrong=$(for step in 1 2 3 4 5 6; do venv/bin/python made.py "$step" 0; done)
    if [[ -n $wrong ]]; then
        echo "round $round: $wrong"
        [[ $wrong == *", from the cache" ]]
        exit
    fi
done
echo "sixty rounds, and each process had its own function"
exit 1
