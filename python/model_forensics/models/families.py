"""Which family a module belongs to, decided by its structure and not by its class name.

A family is a row of `LAYOUTS`: where the blocks, the two output projections of a block, the embedding and the final
norm are. So a model is also found inside a wrapper (a sentence classifier around a `BertModel`), and models that share
a structure (Qwen, Mistral and Llama; RoBERTa and BERT) need no row of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class Layout:
    """Module paths of one family, relative to the body (the module that holds the blocks) or to a block."""

    family: str
    blocks: str  # the list of blocks
    attn: str  # in a block: the attention's output projection
    mlp: str  # in a block: the MLP's last projection
    mlp_module: str | None  # in a block: what stands in for `mlp` where the MLP has no single last projection (MoE)
    embed: str
    final_norm: str | None  # post-norm models have none


LAYOUTS = (
    Layout("gpt2", "h", "attn.c_proj", "mlp.c_proj", None, "drop", "ln_f"),
    Layout("llama", "layers", "self_attn.o_proj", "mlp.down_proj", "mlp", "embed_tokens", "norm"),
    Layout("vit", "layers", "attention.o_proj", "mlp.fc2", None, "embeddings", "layernorm"),
    # transformers 4.x; stands before BERT, whose blocks have the same paths but whose body has no final norm
    Layout("vit", "encoder.layer", "attention.output.dense", "output.dense", None, "embeddings", "layernorm"),
    Layout("bert", "encoder.layer", "attention.output.dense", "output.dense", None, "embeddings", None),
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a body.

    Attributes:
        path: module path of the block.
        attn, mlp: module paths of what writes to the residual stream.
        attn_inputs: features that enter the attention's output projection, all heads together.
        heads: how many equal slices of `attn_inputs` are heads; None when the module does not say.
        neurons: features that enter the MLP's last projection; None for mixtures of experts.
        width: features of the residual stream.
    """

    path: str
    attn: str
    mlp: str
    attn_inputs: int
    heads: int | None
    neurons: int | None
    width: int


@dataclass(frozen=True, slots=True)
class Body:
    """A transformer body found in a module; all paths start at that module."""

    family: str
    path: str
    embed: str
    blocks: tuple[Block, ...]
    final_norm: str | None


def find_body(module: nn.Module) -> Body | None:
    """The one transformer body in `module`; None when there is none, or when several make the names ambiguous."""
    found = [body for path, candidate in module.named_modules() if (body := _match(module, path, candidate))]
    return found[0] if len(found) == 1 else None


def submodule(module: nn.Module, path: str) -> nn.Module | None:
    """The module at `path`, None when there is none."""
    current: object = module
    for part in path.split(".") if path else ():
        if not isinstance(current, nn.Module) or part not in current._modules:
            return None
        current = current._modules[part]
    return current if isinstance(current, nn.Module) else None


def projection_sizes(module: nn.Module | None) -> tuple[int, int] | None:
    """(input features, output features) of a linear map; None when it is none.

    Reads `in_features`/`out_features` (`nn.Linear` and what imitates it) and GPT-2's transposed `Conv1D`.
    """
    if module is None:
        return None
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if isinstance(inputs, int) and isinstance(outputs, int):
        return inputs, outputs
    weight = getattr(module, "weight", None)
    if isinstance(getattr(module, "nf", None), int) and weight is not None and weight.ndim == 2:
        return int(weight.shape[0]), int(weight.shape[1])
    return None


def output_features(module: nn.Module) -> int:
    """Features of a module's output where its kind tells; 0 where only running it does."""
    sizes = projection_sizes(module)
    if sizes is not None:
        return sizes[1]
    for attribute in ("embedding_dim", "out_channels", "num_features"):
        value = getattr(module, attribute, None)
        if isinstance(value, int):
            return value
    shape = getattr(module, "normalized_shape", None)
    return int(shape[-1]) if isinstance(shape, tuple) and shape else 0


def join(*parts: str) -> str:
    """A dotted module path from its non-empty parts."""
    return ".".join(part for part in parts if part)


def _match(root: nn.Module, path: str, candidate: nn.Module) -> Body | None:
    for layout in LAYOUTS:
        blocks = submodule(candidate, layout.blocks)
        if not isinstance(blocks, nn.ModuleList) or len(blocks) == 0:
            continue
        if submodule(candidate, layout.embed) is None:
            continue
        if layout.final_norm is not None and submodule(candidate, layout.final_norm) is None:
            continue
        matched = [
            _match_block(candidate, layout, block, join(path, layout.blocks, str(number)))
            for number, block in enumerate(blocks)
        ]
        complete = [block for block in matched if block is not None]
        if len(complete) == len(matched):
            final_norm = None if layout.final_norm is None else join(path, layout.final_norm)
            return Body(layout.family, path, join(path, layout.embed), tuple(complete), final_norm)
    return None


def _match_block(body: nn.Module, layout: Layout, block: nn.Module, path: str) -> Block | None:
    attn = projection_sizes(submodule(block, layout.attn))
    if attn is None:
        return None
    mlp_path, neurons = layout.mlp, None
    mlp = projection_sizes(submodule(block, layout.mlp))
    if mlp is not None:
        neurons = mlp[0]
    elif layout.mlp_module is not None and submodule(block, layout.mlp_module) is not None:
        mlp_path = layout.mlp_module
    else:
        return None
    heads = _head_count(body, block, layout.attn, attn[0])
    return Block(path, join(path, layout.attn), join(path, mlp_path), attn[0], heads, neurons, attn[1])


def _head_count(body: nn.Module, block: nn.Module, attn_path: str, attn_inputs: int) -> int | None:
    """Query heads of a block: what its attention says of the size of a head, else what a configuration says."""
    attention = submodule(block, attn_path.split(".", maxsplit=1)[0])
    nearby = [attention, submodule(block, "attention.self"), submodule(block, "attention.attention")]
    for module in nearby:
        for attribute in ("head_dim", "attention_head_size"):
            size = getattr(module, attribute, None)
            if isinstance(size, int) and size > 0 and attn_inputs % size == 0:
                return attn_inputs // size
    for module in (*nearby, body):
        config = getattr(module, "config", None)
        for holder, attribute in ((module, "num_heads"), (config, "num_attention_heads")):
            count = getattr(holder, attribute, None)
            if isinstance(count, int) and count > 0 and attn_inputs % count == 0:
                return count
    return None
