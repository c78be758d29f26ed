#!/usr/bin/env bash
# Numba's cache on disk does not find a function again that closes over another compiled function: each process compiles it anew
# and leaves one more file, without a word. Where it closes over plain values alone, the second process reads the first one's.
#
# Seen with numba 0.68.1 (numpy 2.4.2), three processes one after the other, cache=True:
#   closes over a number:            hits 0 1 1, files 1 1 1
#   closes over a compiled function: hits 0 0 0, files 1 2 3
# The key of an entry has the pickled values that the function closes over (Cache._index_key); a compiled one is pickled with a
# UUID that each process draws (Dispatcher._reduce_states).
#
# Needs python3 (3.11 to 3.14) with venv; works in a temporary folder. Ends with 1 if the behaviour is another one.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.2

cat >made.py <<'PY'
import glob, sys
from numba import int64, njit


def made(step):
    @njit(int64(int64), cache=True)
    def plain(value):
        return value + step

    @njit(int64(int64), cache=True)
    def calling(value):
        return 2 * plain(value)

    return plain, calling


of_kind = dict(zip(("plain", "calling"), made(1)))[sys.argv[1]]
assert of_kind(1) == {"plain": 2, "calling": 4}[sys.argv[1]]
print(sum(of_kind.stats.cache_hits.values()), len(glob.glob(f"{sys.argv[2]}/**/*.{sys.argv[1]}-*.nbc", recursive=True)))
PY

seen() {
    rm -rf cache
    for _ in 1 2 3; do NUMBA_CACHE_DIR=cache venv/bin/python made.py "$1" cache; done |
        awk '{ hits = hits " " $1; files = files " " $2 } END { print "hits" hits ", files" files }'
}
plain=$(seen plain) calling=$(seen calling)
echo "closes over a number:            $plain"
echo "closes over a compiled function: $calling"
[[ $plain == "hits 0 1 1, files 1 1 1" && $calling == "hits 0 0 0, files 1 2 3" ]]
