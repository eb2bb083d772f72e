"""The results document for people and programs: JSON, one HTML page, terminal text.

Input is `types.AnalysisResult` or `types.BatchSummary` and nothing else; this part computes no result of its own.
"""

from __future__ import annotations

from model_forensics.report.batch import render_batch_html
from model_forensics.report.html import render_html
from model_forensics.report.json_file import read_json_result, results_schema, write_json
from model_forensics.report.text import render_text

__all__ = ["read_json_result", "render_batch_html", "render_html", "render_text", "results_schema", "write_json"]
