"""How RQ's tests fail under our worker: `python -m tests.rq_suite [FILE ...] [-k EXPR] [--stock]`."""

import argparse
import sys

from tests.rq_suite import suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rq_suite", description=__doc__)
    parser.add_argument("files", nargs="*", default=suite.FILES, metavar="FILE", help="as test_worker.py; default: all")
    parser.add_argument("-k", default="", metavar="EXPR", help="only the tests that match, as for pytest")
    parser.add_argument("--stock", action="store_true", help="under RQ's own worker, to compare")
    options = parser.parse_args()
    expected, bad = suite.expected_failures(), False
    for file in options.files:
        outcome = suite.run(file, "-k", options.k, stock=options.stock)
        for test, traceback in outcome.failures.items():
            sys.stdout.write(f"\n____ {test}\n____ {expected.get(test, 'NOT EXPECTED')}\n\n{traceback}\n")
        counts = f"{outcome.passed} passed, {len(outcome.failures)} failed, {outcome.skipped} skipped"
        sys.stdout.write(f"{file}: {counts}, {outcome.seconds:.0f} s {outcome.trouble}\n")
        sys.stdout.flush()
        bad = bad or bool(outcome.failures or outcome.trouble)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
