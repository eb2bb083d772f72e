"""Two bundles or two results side by side."""

from __future__ import annotations

from pathlib import Path

from model_forensics import diff, report
from model_forensics.bundle import load_bundle
from model_forensics.errors import UsageError
from model_forensics.pipeline import bookkeeping
from model_forensics.types import Comparison


def compare(left: Path, right: Path) -> Comparison:
    """What differs between two bundles or between two results files.

    Raises:
        UsageError: one is a bundle and the other a results file.
        InputRefused: one of them cannot be read.
    """
    names = (str(left), str(right))
    if left.is_dir() != right.is_dir():
        bundle, results = (left, right) if left.is_dir() else (right, left)
        raise UsageError(
            f"{bundle} is a bundle and {results} a results file", cure="Give two bundles, or two results files"
        )
    if left.is_dir():
        recordings = load_bundle(left), load_bundle(right)
        bookkeeping.about(left=recordings[0].content_digest, right=recordings[1].content_digest)
        return diff.compare_recordings(*recordings, names)
    bookkeeping.about(files={"left": left, "right": right})
    return diff.compare_results(report.read_json_result(left), report.read_json_result(right), names)
