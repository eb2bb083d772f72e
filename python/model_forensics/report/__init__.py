"""The results document for people and programs: JSON, one HTML page, terminal text.

Input is `types.AnalysisResult` or `types.BatchSummary` and nothing else; this part computes no result of its own.
"""

from __future__ import annotations

from model_forensics.report.batch import render_batch_html
from model_forensics.report.comparison import render_comparison_html, render_comparison_text
from model_forensics.report.deployment import fix_notes
from model_forensics.report.html import REPORT_ROLE, render_html
from model_forensics.report.json_file import RESULTS_ROLE, json_text, read_json_result, results_schema, write_json
from model_forensics.report.notebook import render_notebook
from model_forensics.report.numbers import plural, rate, size
from model_forensics.report.text import render_text
from model_forensics.types import AnalysisResult

AnalysisResult.shown_by(render_notebook)

__all__ = [
    "REPORT_ROLE",
    "RESULTS_ROLE",
    "fix_notes",
    "json_text",
    "plural",
    "rate",
    "read_json_result",
    "render_batch_html",
    "render_comparison_html",
    "render_comparison_text",
    "render_html",
    "render_text",
    "results_schema",
    "size",
    "write_json",
]
