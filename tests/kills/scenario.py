"""What is killed or failed, and what must hold then; `ci/limits/kill_points.py` goes through all of it.

A scenario has an old state in a directory and a function that changes it. The function is run once to count its calls,
then again and again from the old state, struck at one call; what can be seen afterwards is checked, the function is
run once more, undisturbed, and what can be seen then is checked too.
"""

from __future__ import annotations

import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.kill_points import COUNT_ONLY, Forks, Outcome, Point

KILLS = tuple(Point(action=action) for action in ("before", "torn", "after"))
FAILURES = tuple(
    Point(action=action)
    for action in (
        *(f"{form}:{number}" for number in (errno.ENOSPC, errno.EIO) for form in ("errno", "torn-errno")),
        "full",
        "dead",
    )
)


class Scenario(ABC):
    """One kind of work.

    Args:
        work: an empty directory of this scenario.
        forks: runs its functions.

    Attributes:
        name: of the row in the table.
        module: where `prepare(root)` and `act(root)` are; run in forks.
        under: calls below this directory are struck.
        kills, failures: how calls are struck.
        environment: further variables for them.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    prepare: ClassVar[str] = ""
    act: ClassVar[str]
    under: ClassVar[str] = "."
    kills: ClassVar[Sequence[Point]] = KILLS
    failures: ClassVar[Sequence[Point]] = FAILURES
    environment: ClassVar[Mapping[str, str]] = {}

    def __init__(self, work: Path, forks: Forks) -> None:
        self._forks = forks
        self.root, self._before = work / "a place", work / "before"
        self._before.mkdir(parents=True)
        if self.prepare:
            self._done(self._run(self.prepare, self._before))
        self.reset()
        self.calls = self._done(self.run()).calls
        assert self.calls > 1, "the calls are seen"
        self.note_done()

    def reset(self) -> None:
        """The old state."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._before, self.root, symlinks=True)

    def run(self, point: Point = COUNT_ONLY) -> Outcome:
        return self._run(self.act, self.root, point)

    def _run(self, function: str, root: Path, point: Point = COUNT_ONLY) -> Outcome:
        name = f"{self.module}:{function}"
        return self._forks.run(root / self.under, name, root, point=point, environment=self.environment)

    def _done(self, outcome: Outcome) -> Outcome:
        assert outcome.returncode == 0, f"{self.name}: {outcome.stderr}"
        return outcome

    def strike(self, point: Point) -> list[str]:
        """What went wrong when one call was killed or failed, in words."""
        self.reset()
        outcome = self.run(point)
        return [f"{self.name}, {point}: {words}" for words in self.violations(point, outcome)]

    def note_done(self) -> None:  # noqa: B027  (not every scenario compares states)
        """Called once, after the first whole run."""

    @abstractmethod
    def violations(self, point: Point, outcome: Outcome) -> Iterator[str]:
        """What went wrong, in words; runs the function again."""


class Replacement(Scenario):
    """Work that turns one state into another at once, or into one of a few whole ones, and ends with a named error.

    Attributes:
        error: the name of the class of errors.
        cleans: the next run also removes what a killed one left hidden.
    """

    error: ClassVar[str] = "StorageError"
    cleans: ClassVar[bool] = True

    def note_done(self) -> None:
        self.new = self.state(self.root)
        self.old = self.state(self._before)
        assert self.old != self.new, "the work changes something"

    def state(self, root: Path) -> Hashable:
        """What can be seen: by default the bytes of all files that are not hidden."""
        return contents(root)

    def whole(self, state: Hashable) -> bool:
        """Whether what can be seen is one of the states that may be seen."""
        return state in (self.old, self.new)

    def violations(self, point: Point, outcome: Outcome) -> Iterator[str]:
        state = self.state(self.root)
        if not self.whole(state):
            yield "what can be seen is neither the old nor the new state"
        if point in at(self.kills, point.at):
            if not outcome.killed:
                yield f"was not killed but ended with {outcome.returncode}"
        elif outcome.returncode == 0:  # what failed was the removal of what is no longer needed
            if state != self.new:
                yield "a failed call was passed over in silence"
        elif not named(outcome, self.error):
            yield f"no named error: {outcome.stderr[-600:]}"
        if point.action == "full" and (left := hidden(self.root)):
            yield f"left on a full disk: {left}"
        again = self.run()
        if again.returncode or self.state(self.root) != self.new:
            yield f"the same command did not finish: {again.stderr[-300:]}"
        if self.cleans and (left := hidden(self.root)):
            yield f"left over: {left}"


def at(points: Sequence[Point], call: int | None) -> list[Point]:
    return [Point(call, point.action, point.whom) for point in points]


def named(outcome: Outcome, error: str) -> bool:
    """Whether it ended with this class of errors."""
    return f"ended by model_forensics.errors.{error}" in outcome.stderr


def contents(root: Path) -> tuple[tuple[str, bytes], ...]:
    """Of all files that are not hidden, nor in a hidden directory."""
    return tuple((str(path.relative_to(root)), path.read_bytes()) for path in sorted(_visible(root)) if path.is_file())


def hidden(root: Path) -> list[str]:
    """Hidden files and directories, those that only hold a lock excepted."""
    return sorted(str(path.relative_to(root)) for path in root.rglob(".*") if path.name not in (".lock",))


def _visible(root: Path) -> Iterator[Path]:
    for entry in os.scandir(root):
        if not entry.name.startswith("."):
            yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from _visible(Path(entry.path))


def spread(calls: int, kinds: Sequence[Point], wanted: int) -> list[Point]:
    """At most `wanted` of all calls and kinds, evenly spaced."""
    every = [point for call in range(1, calls + 1) for point in at(kinds, call)]
    step = max(1.0, len(every) / wanted)
    return [every[int(number * step)] for number in range(min(wanted, len(every)))]
