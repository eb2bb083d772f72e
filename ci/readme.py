"""Puts the demo's real output into README.md (`--write`), or prints it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- demo output: [^\n]*-->\n```\n)(.*?)(```\n<!-- end of demo output -->)", re.DOTALL)


def demo_output() -> str:
    """What `make demo` prints on stdout after set-up."""
    with tempfile.TemporaryDirectory() as directory:
        run = subprocess.run(
            [Path(sys.executable).with_name("model-forensics"), "demo", "--output", f"{directory}/demo-results"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        return run.stdout.replace(f"{directory}/", "").replace(f"{ROOT}/", "")


def main() -> None:
    output = demo_output()
    if "--write" not in sys.argv[1:]:
        print(output, end="")
        return
    readme = ROOT / "README.md"
    readme.write_text(BLOCK.sub(lambda found: found[1] + output + found[3], readme.read_text()))


if __name__ == "__main__":
    main()
