"""`python -m bench NAME [arguments]` runs `bench/NAME.py`'s `main(arguments)`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path


def main() -> int:
    """Run one benchmark; its return value is the exit code."""
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("*.py") if "def main(" in path.read_text() and path.stem[0] != "_")
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=names)
    options, rest = parser.parse_known_args()
    return int(import_module(f"bench.{options.name}").main(rest))


if __name__ == "__main__":
    sys.exit(main())
