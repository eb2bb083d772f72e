"""`results.json`: what is written reads back equal, matches the schema, and broken files are refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from model_forensics.errors import ResultsError
from model_forensics.report import read_json_result, results_schema, write_json
from model_forensics.types import AnalysisResult, Verdict

VERDICTS = get_args(Verdict)
MakeResult = Callable[..., AnalysisResult]


@pytest.mark.parametrize("bare", [False, True], ids=["full", "nulls"])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_round_trip_is_exact_and_matches_the_schema(
    make_result: MakeResult, tmp_path: Path, verdict: str, bare: bool
) -> None:
    result = make_result(verdict, bare=bare)
    path = tmp_path / "results.json"
    write_json(result, path)
    assert read_json_result(path) == result
    document = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(results_schema()).validate(document)
    # Pydantic writes NaN as null unless told otherwise; here the number itself must have survived.
    assert document["execution_time"] == result.execution_time


def test_equal_results_give_equal_bytes(make_result: MakeResult, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_json(make_result(), first)
    write_json(read_json_result(first), second)
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.startswith('{\n  "schema_version": "1.0",\n  "bundle_id": "inc-001",\n  "verdict"')


def test_schema_is_itself_valid_and_closed() -> None:
    schema = results_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert {"schema_version", "verdict", "confidence", "compression_metrics", "fix_set"} <= set(schema["required"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nonfinite_numbers_are_refused_and_nothing_is_written(
    make_result: MakeResult, tmp_path: Path, value: float
) -> None:
    result = make_result()
    row = result.compression_metrics[3].model_copy(update={"rank_score": value})
    rows = (*result.compression_metrics[:3], row, *result.compression_metrics[4:])
    path = tmp_path / "results.json"
    path.write_text("the old file", encoding="utf-8")
    with pytest.raises(ResultsError, match=r"results\.json.*compression_metrics\[3\]\.rank_score"):
        write_json(result.model_copy(update={"compression_metrics": rows}), path)
    assert path.read_text(encoding="utf-8") == "the old file"
    assert list(tmp_path.iterdir()) == [path]


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    target: Any = document
    for name in parents:
        target = target[int(name)] if name.isdigit() else target[name]
    target[last] = value


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("schema_version", "2.0", "schema_version"),
        ("schema_version", 1.0, "schema_version"),
        ("schema_version", None, "schema_version"),
        ("verdict", "certainly", "verdict"),
        ("confidence", "0.9", "confidence"),
        ("confidence", True, "confidence"),
        ("surprise", 1, "surprise"),
        ("compression_metrics", {}, "compression_metrics"),
        ("compression_metrics.2.p_value", "low", r"compression_metrics\[2\]\.p_value"),
        ("compression_metrics.2.tokens", 1.5, r"compression_metrics\[2\]\.tokens"),
        ("compression_metrics.2.module", None, r"compression_metrics\[2\]\.module"),
        ("fix_set.flip_interval.low", None, r"fix_set\.flip_interval\.low"),
        ("fix_set.interventions", [], r"fix_set\.interventions"),
        ("fix_set.necessity", [1.0, 1.0], r"fix_set\.necessity"),
        ("fix_set.flips", 13, r"fix_set\.flips"),
        ("fix_set.label", "copied", r"fix_set\.label"),
        ("fix_set.side_effects.changed", 41, r"fix_set\.side_effects\.changed: 41 of 40"),
        ("fix_set.copy_check.copied", 25, r"fix_set\.copy_check\.copied: 25 of 24"),
        ("fix_set.shams.sufficient", 9, r"fix_set\.shams\.sufficient: 9 of 8"),
        ("fix_set.reversal.failures", -1, r"fix_set\.reversal\.failures: -1 of 12"),
        ("fix_set.shuffled.as_good", 20, r"fix_set\.shuffled\.as_good: 20 of 19"),
        ("fix_set", None, "fix_set"),
        ("incident.created_at", "yesterday", r"incident\.created_at"),
        ("bundle_id", "\ud800", "JSON"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_cure(
    make_result: MakeResult, tmp_path: Path, key: str, value: Any, named: str
) -> None:
    path = tmp_path / "results.json"
    write_json(make_result(), path)
    document = json.loads(path.read_text(encoding="utf-8"))
    _set(document, key, value)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ResultsError, match=named) as caught:
        read_json_result(path)
    assert caught.value.where == str(path)
    assert caught.value.cure


def test_a_missing_field_is_named(make_result: MakeResult, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(make_result(), path)
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["compression_metrics"][1]["integrity"]["nan"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ResultsError, match=r"compression_metrics\[1\]\.integrity\.nan"):
        read_json_result(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'"1.0"',
        b"[" * 100_000,
        b'{"schema_version": "1.0", "confidence": NaN}',
        b'{"schema_version": "1.0", "confidence": Infinity}',
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00",  # a pickle
    ],
    ids=["empty", "cut", "null", "array", "object", "not-utf8", "string", "deep", "nan", "infinity", "pickle"],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError) as caught:
        read_json_result(path)
    assert caught.value.where == str(path)


def test_a_number_that_overflows_to_infinity_is_refused(make_result: MakeResult, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(make_result(), path)
    text = path.read_text(encoding="utf-8").replace('"confidence": 0.93', '"confidence": 1e999')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError):
        read_json_result(path)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "absent.json"
    with pytest.raises(ResultsError) as caught:
        read_json_result(path)
    assert caught.value.where == str(path)
