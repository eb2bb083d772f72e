"""Writes the golden bundle. Its bytes are pinned by `golden/`: a change of them is a change of the format."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from model_forensics.bundle import BundleWriter, CallSample, Codec
from model_forensics.failure import Failure
from model_forensics.types import ModelReference, SiteInfo, Sparse


def write_golden(target: Path, *, codec: Codec = "none", overwrite: bool = False) -> None:
    """Two calls, three samples; dense and sparse, shared and own rows, bfloat16, a site that two samples lack."""
    ramp = np.arange(24, dtype=np.float32) / 8
    with BundleWriter(
        target,
        kind="incident",
        failure=Failure.token(wrong=[3], right=[1]),
        model=ModelReference(source="model", architecture="GPT2LMHeadModel", family="gpt2", layers=2, width=4),
        created_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        bundle_id="golden",
        environment={"writer": "golden"},
        only_environment=True,
        overwrite=overwrite,
        codec=codec,
    ) as writer:
        bits = SiteInfo(name="L0.attn", module="h.0.attn", kind="attn", layer=0, features=2, dtype="bfloat16")
        writer.declare_site(bits)
        writer.declare_site(bits.model_copy(update={"name": "L9.attn"}))  # never recorded, so left out
        first = {
            "L0.attn": np.array([[0x3F80, 0xBF80], [0x7FC1, 0x0001]], np.uint16),
            "L0.mlp": ramp[:8].reshape(2, 4),
            "sparse/äöü module": Sparse(np.array([1, -2], np.float16), np.array([0, 5]), (2, 3)),
        }
        second = {
            "L0.attn": np.array([[0x4000, 0x4040], [0, 0x8000], [0xFF80, 0x7F80]], np.uint16),
            "L0.mlp": ramp[8:20].reshape(3, 4),
            "sparse/äöü module": Sparse(np.array([], np.float16), np.array([], np.int64), (3, 3)),
            "final_norm": ramp[20:22].reshape(1, 2).astype(np.float64),
        }
        writer.add_call(
            {"input_ids": np.array([[5, 6, 0], [7, 8, 9]]), "attention_mask": np.array([[1, 1, 0], [1, 1, 1]])},
            [
                CallSample(first, {"logits": ramp[:4].reshape(1, 4)}, text="first", group="a"),
                CallSample(second, {"logits": ramp[4:8].reshape(1, 4)}, text="sécond", group="a", generated_from=2),
            ],
        )
        third = {
            "L0.attn": np.array([[1, 2]], np.uint16),
            "L0.mlp": ramp[20:].reshape(1, 4),
            "sparse/äöü module": Sparse(np.array([7], np.float16), np.array([2]), (1, 3)),
        }
        writer.add_sample(
            inputs={"input_ids": np.array([[4]])},
            activations=third,
            outputs={"logits": ramp[8:12].reshape(1, 4)},
            right=[2],
            wrong=[0],
        )


if __name__ == "__main__":
    write_golden(Path(sys.argv[1]), codec="arithmetic" if "arithmetic" in sys.argv[2:] else "none", overwrite=True)
