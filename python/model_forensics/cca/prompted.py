"""The incident's prompts where the failure is a `text`, and what models generate on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_forensics.cca.calls import recorded_logits
from model_forensics.cca.continuations import Decoder, Request
from model_forensics.cca.replay import predicate
from model_forensics.cca.sequences import Sequences, Tokens, own_tokens, prompt_of
from model_forensics.config import CausalConfig
from model_forensics.errors import OutputError
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import Recording

Decode = Callable[[Tokens], str]


@dataclass(frozen=True)
class Prompted:
    """
    Attributes:
        prompts, recorded: per sample, the tokens before the first generated one, and those that were recorded then.
        decode: tokens to text.
    """

    incident: Recording
    prompts: tuple[Tokens, ...]
    recorded: tuple[Tokens, ...]
    decode: Decode
    config: CausalConfig

    @classmethod
    def of(cls, incident: Recording, decode: Decode, config: CausalConfig) -> Prompted:
        samples = range(len(incident.samples))
        return cls(
            incident,
            tuple(prompt_of(incident, index) for index in samples),
            tuple(recorded_continuation(incident, index) for index in samples),
            decode,
            config,
        )

    @property
    def failure(self) -> Failure:
        return predicate(self.incident)

    def along(self, continuations: Sequence[Tokens]) -> Sequences:
        """The incident's samples, each prompt followed by these tokens."""
        return Sequences(
            self.incident, [prompt + tokens for prompt, tokens in zip(self.prompts, continuations, strict=True)]
        )

    def decoder(self, model: Model) -> Decoder:
        """Continues the prompts with this model."""
        limit = self.failure.max_new_tokens
        assert limit is not None, "a text failure says how many tokens are generated"
        masked = any("attention_mask" in self.incident.inputs(sample.call) for sample in self.incident.samples)
        return Decoder(model, self.prompts, limit=limit, max_rows=self.config.max_batch_rows, masked=masked)

    def continued(self, decoder: Decoder, expected: Sequence[Tokens]) -> list[Tokens]:
        """What the decoder's model generates, unedited.

        Raises:
            OutputError: its logits hold NaN or Inf.
        """
        for index, tokens in enumerate(expected):
            decoder.expect(index, tokens)
        found = decoder.run([Request(index) for index in range(len(expected))])
        for sample, continuation in zip(self.incident.samples, found, strict=True):
            if continuation.broken:
                said = len(continuation.tokens)
                raise OutputError(
                    f"logits of sample {sample.sample_id} hold NaN or Inf after {said} generated tokens",
                    where=decoder.model.source or self.incident.bundle_id,
                    cure="Record the incident with Failure.nonfinite() if that is the failure",
                )
        return [continuation.tokens for continuation in found]


def recorded_continuation(recording: Recording, sample: int) -> Tokens:
    """What was generated when the sample was recorded, as far as that is known.

    The last token was never fed back: it is the one that the recorded logits, if there are any, prefer. Where it was no
    generation, this is the first one.
    """
    tokens = own_tokens(recording, sample)[len(prompt_of(recording, sample)) :]
    logits = recorded_logits(recording, sample)
    last = recording.failure is None or recording.failure.position == -1
    return (*tokens, int(np.argmax(logits))) if logits is not None and last else tokens
