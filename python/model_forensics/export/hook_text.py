"""The text of an exported hook: what it is about, its edits, and the few functions that they need."""

from __future__ import annotations

import base64
import hashlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.errors import InterventionError
from model_forensics.types import FixedRun, FixedRuns, WrittenSite

INLINE_BYTES = 16 << 10
"""Values up to this size are written into the Python file itself, larger ones into a file beside it."""
_WIDTH = 118


@dataclass
class Values:
    """Arrays, one behind the other, little-endian; `add` says how the hook reads them back."""

    content: bytearray = field(default_factory=bytearray)

    def add(self, array: npt.NDArray[Any]) -> str:
        start = len(self.content)
        self.content += np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        return f"_tensor(torch.{array.dtype.name}, {tuple(array.shape)}, {start}, {len(self.content)})"


@dataclass(frozen=True)
class HookText:
    """
    Attributes:
        beside: content of the file with the ending `.bin`; None where the values are in the text.
        asks_donor: whether `apply` takes the donor model.
    """

    text: str
    beside: bytes | None
    asks_donor: bool


def compose(
    runs: FixedRuns, *, about: Sequence[str], model_digest: str, donor_digest: str | None, beside_name: str
) -> HookText:
    """The hook of this fix set.

    Args:
        about: paragraphs for people, without line breaks.
        donor_digest: of the reference model; None where there is none.

    Raises:
        InterventionError: values that belong to recorded inputs, and these are no tokens.
    """
    per_input = [site for site in runs.sites if site.constant is None]
    live = donor_digest is not None and all(_from_reference(site) for site in per_input)
    values = Values()
    edits = [_edit(site, runs, values, live=live) for site in runs.sites]
    constants = [f'MODEL_DIGEST = "{model_digest}"']
    if per_input and live:
        constants.append(f'DONOR_DIGEST = "{donor_digest}"')
    elif per_input:
        constants.append(_inputs(runs, per_input))
    data, beside = _data(bytes(values.content), beside_name)
    folder = files("model_forensics.export")
    code = [
        folder.joinpath(f"hook_{name}.txt").read_text(encoding="utf-8") for name in _code(runs, per_input, live=live)
    ]
    parts = [_docstring(about), _imports(beside is not None), *constants, data, "".join(code).rstrip()]
    body = "\n".join(part for part in parts[:-1] if part)
    listed = "EDITS = (\n" + "".join(f"    {edit},\n" for edit in edits) + ")"
    return HookText(f"{body}\n\n\n{parts[-1]}\n\n\n{listed}\n", beside, bool(per_input) and live)


def _edit(site: WrittenSite, runs: FixedRuns, values: Values, *, live: bool) -> str:
    part = "slice(None)" if site.start is None else f"slice({site.start}, {site.stop})"
    items = {
        "site": repr(site.intervention.site),
        "module": repr(site.module),
        "side": repr(site.side),
        "part": part,
        "values": "None" if site.constant is None else _constant(site, values),
    }
    if site.constant is None and not live:
        assert site.rows is not None, "what is not constant was recorded for every sample"
        items["recorded"] = "[" + ", ".join(values.add(rows) for rows in site.rows) + "]"
    return "{" + ", ".join(f'"{name}": {value}' for name, value in items.items()) + "}"


def _constant(site: WrittenSite, values: Values) -> str:
    assert site.constant is not None
    return f"torch.zeros({site.constant.size})" if not site.constant.any() else values.add(site.constant)


def _from_reference(site: WrittenSite) -> bool:
    return site.intervention.donor is not None and site.intervention.donor.kind == "reference_model"


def _code(runs: FixedRuns, per_input: Sequence[WrittenSite], *, live: bool) -> tuple[str, ...]:
    """The pieces of code that these edits need."""
    if not per_input:
        return ("base", "constant")
    if live:
        return ("base", "cache", "donor")
    return ("base", "cache", "recorded", "exact" if runs.runs[0].told is None else "prompts")


def _inputs(runs: FixedRuns, per_input: Sequence[WrittenSite]) -> str:
    known = [_known(run, number, per_input) for number, run in enumerate(runs.runs)]
    if runs.runs[0].told is None:
        what, entries = "as token ids without padding", [repr(tokens) for tokens in known]
    else:
        what = "as token ids: (prompt and what the donor generated behind it, number of tokens of the prompt)"
        prompts = [len(run.told.prompt) for run in runs.runs if run.told is not None]
        entries = [repr(entry) for entry in zip(known, prompts, strict=True)]
    return f"INPUTS = (  # the recorded inputs, {what}\n" + "".join(f"    {entry},\n" for entry in entries) + ")"


def _known(run: FixedRun, number: int, per_input: Sequence[WrittenSite]) -> tuple[int, ...]:
    """The tokens that the donor's rows belong to, at every site."""
    where = ", ".join(site.intervention.site for site in per_input)
    rows = [len(site.rows[number]) for site in per_input if site.rows is not None]
    if run.told is not None:
        tokens = (run.told.prompt + run.told.donor)[: min(rows)]
        fits = len(tokens) >= len(run.told.prompt)
    else:
        tokens = _own_tokens(run, where)
        fits = set(rows) == {len(tokens)}
    if not fits:
        raise InterventionError(
            f"the donor's values for sample {run.sample_id} are not one row for each of its tokens",
            where=where,
            cure="Give the reference model with --donor-model, and the hook asks it",
        )
    return tokens


def _own_tokens(run: FixedRun, where: str) -> tuple[int, ...]:
    if "input_ids" not in run.inputs:
        raise InterventionError(
            "the patch writes what a donor computed on each input, and the inputs are no tokens to know them by",
            where=where,
            cure="Give the reference model with --donor-model, or export a set of zero and mean interventions",
        )
    ids = np.asarray(run.inputs["input_ids"])[0]
    mask = run.inputs.get("attention_mask")
    return tuple(int(token) for token in (ids if mask is None else ids[np.asarray(mask)[0] != 0]))


def _data(content: bytes, beside_name: str) -> tuple[str, bytes | None]:
    if not content:
        return "", None
    if len(content) > INLINE_BYTES:
        digest = hashlib.sha256(content).hexdigest()
        lines = (
            f"DATA = Path(__file__).with_name({beside_name!r}).read_bytes()",
            f'if hashlib.sha256(DATA).hexdigest() != "{digest}":',
            '    raise ValueError("the values beside this file are not those that were exported with it")',
        )
        return "\n".join(lines), content
    encoded = base64.b64encode(content).decode()
    pieces = [f'    "{encoded[start : start + 100]}"' for start in range(0, len(encoded), 100)]
    return "DATA = base64.b64decode(\n" + "\n".join(pieces) + "\n)", None


def _imports(beside: bool) -> str:
    names = ["base64", "ctypes", "hashlib"]
    plain = "".join(f"import {name}\n" for name in (names[1:] if beside else names))
    return f"\n{plain}" + ("from pathlib import Path\n" if beside else "") + "\nimport torch\n"


def _docstring(about: Sequence[str]) -> str:
    paragraphs = [_safe(paragraph) for paragraph in about]
    wrapped = ["\n".join(textwrap.wrap(text, _WIDTH, break_long_words=False)) for text in paragraphs]
    return '"""' + "\n\n".join(wrapped) + '\n"""\n'


def _safe(text: str) -> str:
    """Names come from bundles: none may end the docstring or hide in it."""
    shown = "".join(character if character.isprintable() else f"<{ord(character):x}>" for character in text)
    return shown.replace("\\", "/").replace('"', "'")
