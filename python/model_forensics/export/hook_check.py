"""Run by itself, in a process of its own: does an exported hook do what the fix set did?

It imports nothing of Model Forensics, and whatever it loads cannot either. Reads a request from standard input (a line
of JSON, then the arrays as .npz), prints {"error": …} with the largest departure, or {"refused": …} with the reason why
it could not be told.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import sys
from typing import Any

import numpy as np
import torch


def main(request: dict[str, Any], arrays: Any) -> dict[str, Any]:
    """The answer to one request; the arrays by name, as `hook` packs them."""
    sys.modules["model_forensics"] = None  # type: ignore[assignment]  # an import of it raises ImportError
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    try:
        models = [_load(spec, request["device"]) for spec in request["models"]]
    except ImportError as error:
        return {"refused": f"the model cannot be built without Model Forensics ({error})"}
    spec = importlib.util.spec_from_file_location("exported_fix", request["hook"])
    assert spec is not None
    assert spec.loader is not None
    fix = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fix)
    try:
        with fix.apply(*models):
            found = [_logits(models[0], arrays, number, request) for number in range(request["samples"])]
            said = [_said(models[0], prompt, request) for prompt in request["prompts"]]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    # Nothing may be left behind: without the hook the model must fail as it did.
    after = [_logits(models[0], arrays, number, request) for number in range(request["samples"])]
    fixed = [arrays[f"{number}/fixed"] for number in range(request["samples"])]
    failed = [arrays[f"{number}/failed"] for number in range(request["samples"])]
    other = sum(tokens != expected for tokens, expected in zip(said, request["said"], strict=True))
    return {"error": _largest(found, fixed), "removed_error": _largest(after, failed), "said_otherwise": other}


def _load(spec: dict[str, Any], device: str) -> torch.nn.Module:
    if spec["factory"] is not None:
        path, _, attribute = spec["factory"].partition(":")
        function: Any = importlib.import_module(path)
        for part in attribute.split("."):
            function = getattr(function, part)
        built = function(spec["source"])
        module: torch.nn.Module = built[0] if isinstance(built, tuple) else built
    else:
        transformers: Any = importlib.import_module("transformers")
        transformers.utils.logging.disable_progress_bar()
        model_class = getattr(transformers, spec["architecture"])
        newer = tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56)
        options = {"dtype" if newer else "torch_dtype": "auto", "use_safetensors": True, "local_files_only": True}
        module = model_class.from_pretrained(spec["source"], **options)
    return module.to(device).eval()


def _logits(model: torch.nn.Module, arrays: Any, number: int, request: dict[str, Any]) -> Any:
    """[classes] float64 at the scored position."""
    dtype = getattr(torch, request["dtype"]) if request["dtype"] else None
    inputs = {}
    for name in request["inputs"][number]:
        value = torch.from_numpy(arrays[f"{number}/inputs/{name}"]).to(request["device"])
        inputs[name] = value.to(dtype) if value.is_floating_point() else value
    with torch.no_grad():
        output: Any = model(**inputs)
    value = output if isinstance(output, torch.Tensor) else (output["logits"] if hasattr(output, "keys") else output[0])
    if value.dim() == 3:
        mask = inputs.get("attention_mask")
        row = value[0] if mask is None else value[0][mask[0].bool()]
        value = row[request["position"]][None]
    return value[0].double().cpu().numpy()


def _said(model: torch.nn.Module, prompt: list[int], request: dict[str, Any]) -> list[int]:
    """What the model generates behind a prompt: the likeliest token at each step, whole inputs."""
    said: list[int] = []
    while len(said) < request["longest"] and not (said and said[-1] in request["ends"]):
        ids = torch.tensor([prompt + said], device=request["device"])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if request["masked"] else {"input_ids": ids}
        with torch.no_grad():
            output: Any = model(**inputs)
        logits = (output["logits"] if hasattr(output, "keys") else output)[0, -1]
        if not logits.isfinite().all():
            break
        said.append(int(logits.argmax()))
    return said


def _largest(found: list[Any], expected: list[Any]) -> float | None:
    """Largest |found − expected| ÷ largest |expected|; None (JSON has no infinity) where only one is finite."""
    worst = 0.0
    for left, right in zip(found, expected, strict=True):
        finite = np.isfinite(right)
        if left.shape != right.shape or not np.array_equal(finite, np.isfinite(left)):
            return None
        if finite.any():
            largest = max(float(np.abs(right[finite]).max()), float(np.finfo(np.float32).tiny))
            worst = max(worst, float(np.abs(left[finite] - right[finite]).max()) / largest)
    return worst


if __name__ == "__main__":
    asked = json.loads(sys.stdin.buffer.readline())
    print(json.dumps(main(asked, np.load(io.BytesIO(sys.stdin.buffer.read())))))
