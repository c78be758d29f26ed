"""python -m speed submit: bring the topology to Storm."""

from __future__ import annotations

import argparse
import sys

from contract.errors import BraidError
from contract.settings import Settings
from speed.submit import submit


def main() -> int:
    """One verb; an expected failure is one line and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m speed", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    submitting = verbs.add_parser("submit", help="submit the topology unless this very version runs already")
    submitting.add_argument("--force", action="store_true", help="submit it again in any case")
    arguments = parser.parse_args()
    try:
        print(submit(Settings.from_env(), arguments.force))
    except BraidError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `make up` submits it again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
