"""Single files: results with their page, hooks, a migrated configuration, a log file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from model_forensics.config.migrate import migrate_file
from model_forensics.export import hook
from model_forensics.export.hook_text import HookText
from model_forensics.files import write_protected
from model_forensics.logs import LOGGER, configured
from model_forensics.report import REPORT_ROLE, render_html, write_json
from tests.kill_points import Outcome, Point
from tests.kills.scenario import KILLS, Replacement, Scenario, at, named
from tests.report.conftest import a_result


def old_results(root: str) -> None:
    _write(Path(root), "no_fix_found")


def new_results(root: str) -> None:
    _write(Path(root), "cause_found")


def _write(root: Path, verdict: str) -> None:
    result = a_result(verdict)
    write_json(result, root / "r.json")
    write_protected(root / "r.html", render_html(result), role=REPORT_ROLE)


def old_hook(root: str) -> None:
    _export_hook(Path(root), "old")


def new_hook(root: str) -> None:
    _export_hook(Path(root), "new")


def _export_hook(root: Path, text: str) -> None:
    """Its writing alone: that it does what was proven is tried in `tests/export`."""
    stub: Any = hook
    stub.compose = lambda *_, **__: HookText(text, text.encode() * 1000, asks_donor=False)
    stub._tried = lambda *_: 0.0
    model: Any = SimpleNamespace(reference=SimpleNamespace(weights_digest="sha256:0"))
    runs: Any = None
    hook.write_hook(root / "fix.py", runs, model, None, about=(), overwrite=True)


def old_configuration(root: str) -> None:
    Path(root, "config.yaml").write_text("# mine\nseed: 3\n")


def migrate(root: str) -> None:
    migrate_file(Path(root, "config.yaml"))


def log_once(root: str) -> None:
    with configured(level="INFO", file=Path(root, "a.log")):
        LOGGER.info("a line")


class Results(Replacement):
    """Each of the two is the old or the new one."""

    name = "results and their page"
    module = __name__
    prepare = "old_results"
    act = "new_results"

    def whole(self, state: Any) -> bool:
        return len(state) == len(self.new) and all(one in (*self.old, *self.new) for one in state)


class Hook(Results):
    name = "validate-fix --export-hook"
    prepare = "old_hook"
    act = "new_hook"


class Migration(Replacement):
    """The backup is there before the file changes."""

    name = "migrate-config"
    cleans = False  # a backup that is complete is not written again
    module = __name__
    prepare = "old_configuration"
    act = "migrate"

    def whole(self, state: Any) -> bool:
        return all(one in (*self.old, *self.new) for one in state) and (
            self.old[0] in state or self.new[1:] == state[1:]
        )


class LogFile(Scenario):
    """The work goes on without its log; lines that are there stay."""

    name = "log file"
    module = __name__
    prepare = "log_once"
    act = "log_once"

    def violations(self, point: Point, outcome: Outcome) -> Iterator[str]:
        if point in at(KILLS, point.at):
            if not outcome.killed:
                yield f"was not killed but ended with {outcome.returncode}"
        elif outcome.returncode and not named(outcome, "StorageError"):
            yield f"no named error: {outcome.stderr[-600:]}"
        lines = (self.root / "a.log").read_text().count("INFO a line\n")
        if lines not in (1, 2):
            yield f"{lines} whole lines"
        if not outcome.killed and not outcome.returncode and lines < 2 and "log lines are lost" not in outcome.stderr:
            yield "a line was lost in silence"
        again = self.run()
        if again.returncode or (self.root / "a.log").read_text().count("INFO a line\n") != lines + 1:
            yield f"cannot be written to any more: {again.stderr[-300:]}"
