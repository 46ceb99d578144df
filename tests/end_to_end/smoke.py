"""``python -m tests.end_to_end.smoke URL``: the eight cases against a running daemon. Exit status 1 if one fails."""

from __future__ import annotations

import sys

import httpx

from tests.end_to_end.cases import CASES


def main(base: str) -> int:
    failed = 0
    for case in CASES:
        name = case.__name__.replace("_", " ")
        try:
            print(f"ok    {name}: {case(base)}")
        except (AssertionError, httpx.HTTPError, KeyError, ValueError) as error:
            failed += 1
            print(
                f"FAIL  {name}: {type(error).__name__}: {error}"
                if not isinstance(error, AssertionError)
                else f"FAIL  {name}: {error}"
            )
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.end_to_end.smoke http://localhost:9200")
    sys.exit(main(sys.argv[1].rstrip("/")))
