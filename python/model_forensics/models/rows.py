"""From batched, padded tensors to the rows of one sample, and to the logits that are scored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from model_forensics.errors import ModelError, OutputError

_TOKENS, _IMAGE = 3, 4  # dimensions of [batch, tokens, features] and [batch, channels, height, width]


def real_token_mask(inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Which positions are tokens and which are padding.

    Returns:
        [batch, tokens] bool from `attention_mask`; None without one: every position is real.

    Raises:
        ModelError: the attention mask is not [batch, tokens], or a row is padding only.
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        return None
    if mask.ndim != 2:
        raise ModelError(
            f"an attention mask of shape {list(mask.shape)} does not say which tokens are padding",
            where="attention_mask",
            cure="Pass it as [batch, tokens]",
        )
    real = mask.detach() != 0
    empty = (~real.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ModelError(f"rows {empty} hold padding only", where="attention_mask", cure="Leave these samples out")
    return real


def to_rows(value: Tensor, mask: Tensor | None, row: int) -> Tensor:
    """One sample's activation as [rows, features].

    Args:
        value: [batch, tokens, features], [batch, features] (one row), [batch] (one row, one feature) or
            [batch, channels, height, width] (height · width rows). A batch of 1 serves every sample (position
            embeddings).
        mask: [batch, tokens] bool; removes padding where its token count is the value's, and is not used elsewhere
            (a vision encoder's patches, pooled values).
        row: the sample's place in the batch.

    Raises:
        ModelError: another shape, or too few rows in the batch.
    """
    if value.ndim == 0 or value.ndim > _IMAGE:
        raise ModelError(
            f"a value of shape {list(value.shape)} cannot be read as rows of features",
            cure="Record [batch, tokens, features], [batch, features] or [batch, channels, height, width]",
        )
    if row >= value.shape[0] and value.shape[0] != 1:
        raise ModelError(
            f"a value of shape {list(value.shape)} has no batch row {row}",
            cure="Record a site whose first dimension is the batch",
        )
    own = value[row if value.shape[0] > 1 else 0]
    if value.ndim == _TOKENS:
        return own[mask[row].to(own.device)] if mask is not None and mask.shape[1] == own.shape[0] else own
    if value.ndim == _IMAGE:
        return own.flatten(1).transpose(0, 1)
    return own.reshape(1, -1)


def scored_columns(mask: Tensor | None, position: int, *, batch: int, tokens: int) -> Tensor:
    """Where in the padded batch each sample's `position` lies: [batch] int64 on the CPU.

    Args:
        position: counted among the sample's own tokens, from the end when negative.

    Raises:
        OutputError: a sample has fewer tokens.
    """
    columns = []
    for row in range(batch):
        own = torch.arange(tokens) if mask is None else mask[row].nonzero().flatten().cpu()
        if not -len(own) <= position < len(own):
            raise OutputError(
                f"sample {row} of the batch has {len(own)} tokens, so there is no position {position} to score",
                cure="Give the failure a position that every sample has, such as -1",
            )
        columns.append(int(own[position]))
    return torch.tensor(columns, dtype=torch.int64)


def scored_logits(logits: Tensor, mask: Tensor | None, position: int) -> Tensor:
    """[batch, classes] at the scored position.

    Args:
        logits: [batch, tokens, classes], or [batch, classes] of a classifier, which are scored as they are.
        mask: [batch, tokens] bool or None.
        position: among the sample's own tokens, from the end when negative.

    Raises:
        OutputError: another shape, logits that do not cover the tokens, or a position that a sample does not have.
    """
    if logits.ndim == 2:
        return logits
    if logits.ndim != _TOKENS:
        raise OutputError(
            f"an output of shape {list(logits.shape)} cannot be scored",
            cure="Return [batch, tokens, classes] or [batch, classes], for example from a model factory",
        )
    batch, tokens = logits.shape[:2]
    if mask is not None and tuple(mask.shape) != (batch, tokens):
        raise OutputError(
            f"logits of shape {list(logits.shape)} do not cover the {list(mask.shape)} tokens of the attention mask",
            cure="Let the model return the logits of every token",
        )
    columns = scored_columns(mask, position, batch=batch, tokens=tokens).to(logits.device)
    return logits[torch.arange(batch, device=logits.device), columns]
