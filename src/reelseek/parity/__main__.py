"""`python -m reelseek.parity FOLDER [FOLDER ...]`"""

import sys
from pathlib import Path

from reelseek.errors import ReelseekError
from reelseek.parity.check import check, find_fixtures, read_fixture

_USAGE = """usage: python -m reelseek.parity FOLDER [FOLDER ...]

Compares our models, losses and metrics with recorded numbers: one line `system output max_abs_diff ok|FAIL` per output;
exit 1 if any fails. A FOLDER is a fixture, or holds fixtures.

example: python -m reelseek.parity fixtures/mmt fixtures/eao"""


def main(arguments: list[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(_USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    failed = compared = 0
    try:
        for folder in find_fixtures([Path(argument) for argument in arguments]):
            for line in check(read_fixture(folder)):
                print(line, flush=True)
                if line.note:
                    print(f"{folder}: {line.output}: {line.note}", file=sys.stderr)
                compared, failed = compared + 1, failed + (not line.ok)
    except ReelseekError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{compared} outputs compared, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
