"""Runs docs/operations.md from an empty directory and compares what it prints, or writes it into the page (`--write`).

The page has two kinds of blocks: a `python` block under a comment `<!-- file: NAME -->` is written to a file of that
name, and in a `console` block each line that starts with `$ ` is a command, followed by what it prints on stdout.

`comparable` is the one place that says what may differ from the page: times, sizes, digests, fractions.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
BLOCK = re.compile(r"(?:<!-- file: (?P<name>\S+) -->\n)?```(?P<kind>python|console)\n(?P<body>.*?)```", re.DOTALL)
VARYING = (
    (re.compile(r"sha256:[0-9a-f]+"), "sha256:…"),
    (re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::[\d.]+)?(?:\+00:00)?"), "DATE"),
    (re.compile(r"^( [a-z]+, s) .*$", re.MULTILINE), r"\1 DURATIONS"),  # of `stats`
    (re.compile(r"within \S+ of the largest logit"), "within … of the largest logit"),
    (re.compile(r"[<>]?\d+\.\d+(?:e-?\d+)?(?: (?:ms|s|min)\b)?"), "FRACTION"),  # last digits differ between processors
    (re.compile(r"\b\d+ (?:ms|s|min)\b"), "FRACTION"),
    (re.compile(r"\b\d{1,3}(?:,\d{3})+\b"), "SIZE"),
    (re.compile(r"[ \t]+"), " "),  # columns are as wide as what stands in them
)


@dataclass(frozen=True)
class Step:
    """One command of the page and what the page says it prints."""

    command: str
    shown: str


def steps(body: str) -> list[Step]:
    """The commands of one `console` block."""
    found = []
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        found.append(Step(command, shown))
    return found


def comparable(text: str) -> str:
    """`text` without what differs from one machine, or run, to the next."""
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def run_page(page: str, on_step: Callable[[Step, str], None]) -> str:
    """Runs every block in order, in an empty directory; the page with what was printed now.

    Args:
        on_step: told each command's output.
    """
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder).resolve()

        def ran(block: re.Match[str]) -> str:
            if block["kind"] == "python":
                (directory / block["name"]).write_text(block["body"], encoding="utf-8")
                return block[0]
            printed = []
            for step in steps(block["body"]):
                output = _run(step.command, directory)
                on_step(step, output)
                printed.append(f"$ {step.command}\n{output}")
            return f"```console\n{''.join(printed)}```"

        return BLOCK.sub(ran, page)


def _run(command: str, directory: Path) -> str:
    """What a command prints on stdout; the working directory is left out of paths.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MODEL_FORENSICS_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["XDG_CACHE_HOME"] = str(directory / ".cache")
    run = subprocess.run(
        command, shell=True, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        sys.stderr.write(run.stderr)
        run.check_returncode()
    return "".join(f"{line.rstrip()}\n" for line in run.stdout.replace(f"{directory}/", "").splitlines())


def main() -> int:
    differing = []

    def compare(step: Step, output: str) -> None:
        if comparable(step.shown) != comparable(output):
            differing.append(step.command)
            print(f"$ {step.command}\n{output}")

    written = run_page(PAGE.read_text(encoding="utf-8"), compare)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written, encoding="utf-8")
        return 0
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
