"""A decoder as a chain of halves: each adds one branch, attention or MLP, to the residual stream.

`x + after(core(before(x)))` is what the blocks of GPT-2, Llama, Qwen, Mistral and Gemma compute. Only the modules are
named here; they run with their own forward, so weights, quantised layers and norms stay what they are. Whether a model
really computes this is not read from its class: `middle.BaseRun` replays the chain against the model's own run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from model_forensics.models.families import Body, find_body, submodule
from model_forensics.models.values import output_tensor


@dataclass(frozen=True, slots=True)
class Branches:
    """Names in a block: norm, attention, norm of its output or None; then the same for the MLP."""

    attention: tuple[str, str, str | None]
    mlp: tuple[str, str, str | None]

    def modules(self) -> set[str]:
        return {name for name in (*self.attention, *self.mlp) if name is not None}


BRANCHES = {
    "gpt2": (Branches(("ln_1", "attn", None), ("ln_2", "mlp", None)),),
    "llama": (
        Branches(("input_layernorm", "self_attn", None), ("post_attention_layernorm", "mlp", None)),
        Branches(  # Gemma 2 and 3
            ("input_layernorm", "self_attn", "post_attention_layernorm"),
            ("pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm"),
        ),
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """One branch of a block.

    Attributes:
        before: the norm of what the branch reads.
        core: the attention or the MLP.
        after: the norm of what the branch adds; None in most families.
    """

    before: nn.Module
    core: nn.Module
    after: nn.Module | None

    def finish(self, value: Tensor) -> Tensor:
        """What is added to the residual stream for this output of `core`, [..., features]."""
        return value if self.after is None else output_tensor(self.after(value), "")


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """The modules of a causal language model in the order in which they run.

    Attributes:
        blocks: paths of the blocks.
        halves: two for each block: attention at 2l, MLP at 2l + 1.
    """

    body: Body
    blocks: tuple[str, ...]
    halves: tuple[Half, ...]
    final_norm: nn.Module
    unembedding: nn.Module
    cap: float | None

    @property
    def layers(self) -> int:
        return len(self.blocks)

    def logits(self, states: Tensor) -> Tensor:
        """[..., classes] of final residual states [..., features]."""
        logits = output_tensor(self.unembedding(output_tensor(self.final_norm(states), "")), "")
        return logits if self.cap is None else self.cap * (logits / self.cap).tanh()


def find_decoder(module: nn.Module) -> Decoder | str:
    """The chain of halves of a causal language model, or in words why there is none."""
    body = find_body(module)
    if body is None or body.family not in BRANCHES:
        return f"blocks of family {'module' if body is None else body.family} are not known half by half"
    unembedding = submodule(module, "lm_head")
    final_norm = submodule(module, body.final_norm or "")
    if unembedding is None or final_norm is None:
        return "the model has no final norm with an `lm_head` after it"
    halves: list[Half] = []
    for block in body.blocks:
        found = _halves(submodule(module, block.path), BRANCHES[body.family])
        if isinstance(found, str):
            return f"{block.path}: {found}"
        halves += found
    cap = getattr(getattr(module, "config", None), "final_logit_softcapping", None)
    return Decoder(body, tuple(block.path for block in body.blocks), tuple(halves), final_norm, unembedding, cap)


def _halves(block: nn.Module | None, known: Sequence[Branches]) -> list[Half] | str:
    assert block is not None, "find_body names modules that exist"
    children = dict(block.named_children())
    weighted = {name for name, part in children.items() if any(True for _ in part.parameters())}
    for branches in known:
        if weighted <= branches.modules() <= children.keys():  # weights of a quantised part may be no parameters
            return [
                Half(children[before], children[core], None if after is None else children[after])
                for before, core, after in (branches.attention, branches.mlp)
            ]
    return f"parts {', '.join(sorted(weighted))} are not those of a known block"
