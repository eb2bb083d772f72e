"""Digests that tell one version of a model, or of a tokenizer, from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from model_forensics.errors import ModelError
from model_forensics.models.placement import offloaded

_CHUNK_BYTES = 32 << 20  # what is copied to the CPU at a time


def weights_digest(module: nn.Module) -> tuple[str, dict[str, str]]:
    """Digest of all parameters and persistent buffers, and that of each.

    A tensor's digest is SHA-256 over `dtype`, shape and the little-endian bytes in C order; the model's is SHA-256
    over the lines `name`, tab, tensor digest, newline in the order of the names. The tensors are read in chunks, so
    that a model larger than the CPU's memory can be digested from a GPU. Tied tensors are read once. Quantised weights
    count by what they consist of (see `stored_tensors`), weights that accelerate keeps outside as if they were inside.

    Returns:
        ("sha256:…", {name: "sha256:…"}), names as in `stored_tensors`.

    Raises:
        ModelError: a tensor holds no data (meta device).
    """
    by_storage: dict[tuple[Any, ...], str] = {}
    digests: dict[str, str] = {}
    for name, value in stored_tensors(module):
        if value.is_meta:
            kept = offloaded(module, name)
            if kept is None:
                raise ModelError("the weights are not loaded (meta device)", where=name, cure="Load the model first")
            digests[name] = tensor_digest(kept)  # read for this moment only: another may come to lie at its place
            continue
        place = (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if value.numel() == 0 or place not in by_storage:
            by_storage[place] = tensor_digest(value)
        digests[name] = by_storage[place]
    whole = hashlib.sha256()
    for name, digest in digests.items():
        whole.update(f"{name}\t{digest}\n".encode())
    return f"sha256:{whole.hexdigest()}", digests


def stored_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers, by name in order, as in `state_dict`.

    Weights that it holds in a packed form (torch's quantised layers) or behind a tensor subclass (torchao) are taken
    apart, each part under the name and its own: `weight.qdata`, `_packed_params.0`. What holds no tensor (extra state
    of a custom module) is no weight.
    """
    for name, value in sorted(module.state_dict().items()):
        yield from _parts(name, value)


def _parts(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, tuple | list):
        for number, part in enumerate(value):
            yield from _parts(f"{name}.{number}", part)
    elif isinstance(value, Tensor):
        flatten = getattr(value, "__tensor_flatten__", None)
        if flatten is None:
            yield name, value
        else:
            for attribute in flatten()[0]:
                yield from _parts(f"{name}.{attribute}", getattr(value, attribute))


def tensor_digest(value: Tensor) -> str:
    """SHA-256 of one tensor's dtype, shape and bytes; any dtype, any device. Of a quantised one: whole numbers, then
    scales and zero points as float64 and int64."""
    hasher = hashlib.sha256(f"{dtype_name(value.dtype)} {list(value.shape)}\n".encode())
    for part in _quantised(value) if value.is_quantized else (value,):
        flat = part.detach().reshape(-1)
        step = max(1, _CHUNK_BYTES // max(1, flat.element_size()))
        for start in range(0, flat.numel(), step):
            chunk = flat[start : start + step].cpu().contiguous()
            hasher.update(chunk.view(torch.uint8).numpy().data)
    return f"sha256:{hasher.hexdigest()}"


def _quantised(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scales, zeros = torch.tensor(value.q_scale(), dtype=torch.float64), torch.tensor(value.q_zero_point())
    else:
        scales, zeros = value.q_per_channel_scales().double(), value.q_per_channel_zero_points()
    return value.int_repr(), scales, zeros


def tokenizer_digest(tokenizer: object | None) -> str | None:
    """Digest of what a tokenizer does to text; None without a tokenizer, or for one that does not say what it does.

    Padding and truncation are left out: they are settings of a call, which the tokenizer keeps, not of the vocabulary.
    """
    if tokenizer is None:
        return None
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    content: dict[str, Any]
    if hasattr(backend, "to_str"):
        content = json.loads(backend.to_str())
        content.pop("padding", None)
        content.pop("truncation", None)
    elif hasattr(tokenizer, "get_vocab"):
        special = {key: str(value) for key, value in getattr(tokenizer, "special_tokens_map", {}).items()}
        content = {"class": type(tokenizer).__name__, "vocabulary": dict(tokenizer.get_vocab()), "special": special}
    else:
        return None
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def dtype_name(dtype: torch.dtype) -> str:
    """`float32`, `bfloat16`, …"""
    return str(dtype).removeprefix("torch.")
