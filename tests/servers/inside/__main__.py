"""In the container: runs one server, and writes as JSON to stdout what it logged and what the client knows."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from dataclasses import asdict

from tests.servers.inside.run import NotStarted, run
from tests.servers.inside.servers import SERVERS


def main(name: str) -> int:
    """Exit status: 0 it ran, 1 it did not start; the reason is on stderr."""
    (server,) = (one for one in SERVERS if one.name == name)
    try:
        ran = run(server)
    except NotStarted as reason:
        print(f"{name}: {reason}", file=sys.stderr)
        return 1
    answers = {request.name: None if answer is None else asdict(answer) for request, answer in ran.asked}
    said = {
        "version": ran.version,
        "began_s": ran.began_s,
        "ended_s": ran.ended_s,
        "log": b64encode(ran.log).decode(),
        "answers": answers,
    }
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
