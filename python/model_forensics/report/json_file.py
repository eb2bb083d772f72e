"""`results.json`: strict writing, strict reading, and the published schema."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema

from model_forensics.errors import BundleFormatError, ResultsError
from model_forensics.files import parse_json, read_protected, write_protected
from model_forensics.types import RESULTS_SCHEMA_VERSION, AnalysisResult, FixSet

RESULTS_ROLE = "results"
"""What an encrypted results file opens as; see `files.write_protected`."""
MAX_BYTES = 512 << 20
"""Largest results file that is read: 437 sites × 8,192 tokens take about 100 MB."""

_REWRITE = "Write the file anew with 'model-forensics analyze', or pass another file"


def write_json(result: AnalysisResult, path: Path, *, overwrite: bool = True) -> None:
    """Write `result` as UTF-8 JSON, atomically; an existing file is replaced, or refused without `overwrite`.

    The file is encrypted when the process has a key.

    Raises:
        ResultsError: as `json_text`; nothing is written.
        UsageError: the file is there and may not be replaced.
        StorageError: the file cannot be written.
    """
    write_protected(path, json_text(result, path), role=RESULTS_ROLE, overwrite=overwrite)


def json_text(result: AnalysisResult, path: Path) -> str:
    """The content of `results.json`, which will be at `path`.

    Keys come in the order of the schema, two spaces of indentation, numbers in the shortest form that reads back
    to the same float64. Equal results give equal bytes.

    Raises:
        ResultsError: a number is NaN or infinite (JSON has neither); the key is named.
    """
    document = result.model_dump(mode="json")
    bad = next(_nonfinite(document), None)
    if bad is not None:
        key, value = bad
        raise ResultsError(
            f"{key} is {value}, which JSON cannot hold",
            where=path,
            cure="This is a fault in the stage that computed it: a value that was not measured must be null",
        )
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json_result(path: Path) -> AnalysisResult:
    """Read a results file, plain or encrypted, and check it completely: types, unknown keys, finite numbers, agreement.

    Raises:
        ResultsError: the file is missing, is not JSON, has another schema version, or a field is wrong. The error
            names the file, the field and the cure.
        EncryptionError: it is encrypted, and the key is missing or another one, or it was altered.
    """
    if not path.is_file():
        raise ResultsError(
            "there is no such results file",
            where=path,
            cure="Give the path that 'model-forensics analyze --output' wrote",
        )
    try:
        text = read_protected(path, role=RESULTS_ROLE, max_bytes=MAX_BYTES, error=BundleFormatError)
        document = parse_json(text, where=str(path))
    except BundleFormatError as error:
        raise ResultsError(error.what, where=path, cure=_REWRITE) from error
    _check_version(document, path)
    try:
        # Through JSON once more: only there do strict types mean "arrays for tuples, text for dates".
        result = AnalysisResult.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ResultsError(f"{_key(first['loc'])}: {first['msg']}", where=path, cure=_REWRITE) from error
    bad = next(_nonfinite(result.model_dump(mode="json")), None)
    if bad is not None:  # 1e999 is valid JSON and reads as infinity
        raise ResultsError(f"{bad[0]}: {bad[1]} is not a finite number", where=path, cure=_REWRITE)
    _check_agreement(result, path)
    return result


def results_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the files that `write_json` writes."""
    schema = AnalysisResult.model_json_schema(mode="serialization", schema_generator=_EveryKeyRequired)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:model-forensics:results:{RESULTS_SCHEMA_VERSION}",
        **schema,
    }


class _EveryKeyRequired(GenerateJsonSchema):
    """`write_json` writes every key, also those with a default: a reader may rely on them."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True


def _check_version(document: Any, path: Path) -> None:
    if not isinstance(document, dict):
        raise ResultsError("the document is not a JSON object", where=path, cure=_REWRITE)
    if "schema_version" not in document:
        raise ResultsError("schema_version is missing, so this is no results file", where=path, cure=_REWRITE)
    version = document["schema_version"]
    if version != RESULTS_SCHEMA_VERSION:
        raise ResultsError(
            f"schema_version is {json.dumps(version)[:40]}, and this release reads '{RESULTS_SCHEMA_VERSION}'",
            where=path,
            cure="Read it with the release that wrote it, or run the analysis again with this one",
        )


def _check_agreement(result: AnalysisResult, path: Path) -> None:
    """What types cannot say: counts that contradict each other would be repeated by every reader."""
    if result.verdict == "cause_found" and result.fix_set is None:
        raise ResultsError("fix_set: is null, but the verdict is 'cause_found'", where=path, cure=_REWRITE)
    named = [("fix_set", result.fix_set), ("evidence.best_effect", result.evidence.best_effect)]
    named += [(f"alternatives[{place}]", fix) for place, fix in enumerate(result.alternatives)]
    named += [(f"workarounds[{place}]", fix) for place, fix in enumerate(result.workarounds)]
    for key, fix in named:
        problem = None if fix is None else _disagreement(fix)
        if problem is not None:
            raise ResultsError(f"{key}.{problem}", where=path, cure=_REWRITE)


def _disagreement(fix: FixSet) -> str | None:
    if not fix.interventions:
        return "interventions: is empty"
    if len(fix.necessity) not in {0, len(fix.interventions)}:
        return f"necessity: has {len(fix.necessity)} values for {len(fix.interventions)} interventions"
    if min(fix.flips, fix.suppressed, fix.groups) < 0 or fix.flips + fix.suppressed > fix.samples:
        return f"flips: {fix.flips} flips and {fix.suppressed} suppressed do not fit {fix.samples} samples"
    return next((f"{key}: {part} of {whole}" for key, part, whole in _parts(fix) if not 0 <= part <= whole), None)


def _parts(fix: FixSet) -> Iterator[tuple[str, int, int]]:
    """(key, count, what it is a part of) of everything that was counted beside the flips."""
    if fix.side_effects is not None:
        yield "side_effects.changed", fix.side_effects.changed, fix.side_effects.samples
    if fix.copy_check is not None:
        yield "copy_check.copied", fix.copy_check.copied, fix.copy_check.checks
    if fix.shams is not None:
        yield "shams.sufficient", fix.shams.sufficient, fix.shams.sets
    if fix.reversal is not None:
        yield "reversal.failures", fix.reversal.failures, fix.reversal.samples
    if fix.shuffled is not None:
        yield "shuffled.as_good", fix.shuffled.as_good, fix.shuffled.repeats


def _nonfinite(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every NaN and infinity in a JSON document, with its key."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield key, value
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _nonfinite(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            yield from _nonfinite(entry, f"{key}[{place}]")


def _key(location: tuple[int | str, ...]) -> str:
    """('compression_metrics', 3, 'p_value') → 'compression_metrics[3].p_value'."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the document"
