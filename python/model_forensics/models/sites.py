"""The sites of a model: which tensors can be read or replaced, under names that do not depend on the architecture."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

from model_forensics.errors import UnknownSite
from model_forensics.models.families import Block, Body, find_body, output_features, projection_sizes, submodule
from model_forensics.models.names import parse_site_name
from model_forensics.types import SiteKind

Granularity = Literal["component", "head"]
PRESETS = ("blocks", "components", "heads", "all")
_WITHOUT_FORWARD = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a site's tensor passes through the model.

    Attributes:
        name: canonical name, or the module path.
        layer: block number; None outside blocks.
        index: number of the head or neuron.
        module: module path; "" is the model itself.
        side: whether the tensor enters or leaves that module.
        start, stop: slice of the tensor's last dimension; None for all of it.
        features: size of the site's last dimension; 0 when only running the model tells.
        order: execution order; sites of one tensor (heads of a layer) share it.
    """

    name: str
    kind: SiteKind
    layer: int | None
    index: int | None
    module: str
    side: Literal["input", "output"]
    start: int | None
    stop: int | None
    features: int
    order: int


class SiteMap:
    """All sites of one module.

    Attributes:
        family: gpt2, llama, bert, vit, or module for anything else.
        layers: blocks; None for family `module`.
        heads: query heads of a block; None when unknown or not the same in all blocks.
        width: features of the residual stream; None for family `module`.
        taps: in execution order, without neurons and module paths (`get` resolves these on demand). Known families:
            embed, each block's heads, attn, mlp and resid, final_norm, logits. Others: each module that owns
            parameters, and logits.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        # Children run before their parent returns, so post-order approximates execution order wherever modules are
        # registered in the order in which they run; for the known families it is exact.
        self._finish = {path: number for number, path in enumerate(_post_order(module))}
        self._body = find_body(module)
        self.family = "module" if self._body is None else self._body.family
        self.layers = None if self._body is None else len(self._body.blocks)
        self.width = None if self._body is None else self._body.blocks[0].width
        heads = {block.heads for block in self._body.blocks} if self._body is not None else {None}
        self.heads = heads.pop() if len(heads) == 1 else None
        taps = self._generic_taps() if self._body is None else self._family_taps(self._body)
        self.taps: tuple[Tap, ...] = tuple(sorted(taps, key=lambda tap: tap.order))
        self._named = {tap.name: tap for tap in self.taps}

    def get(self, name: str) -> Tap:
        """The tap of one site: a canonical name (neurons included) or a module path.

        Raises:
            UnknownSite: the model has no such site, or the name carries a token position (`parse_site_name` splits it).
        """
        known = self._named.get(name)
        if known is not None:
            return known
        parsed = parse_site_name(name)
        if parsed.position is not None:
            raise UnknownSite(
                "a token position is not part of a site", where=name, cure="Split it off with parse_site_name first"
            )
        if parsed.kind == "neuron" and parsed.layer is not None and parsed.index is not None:
            neuron = self._neuron(parsed.layer, parsed.index)
            if neuron is not None:
                return neuron
        if parsed.kind == "module" and name in self._finish:
            return self._module_tap(name)
        raise self._unknown(name)

    def select(self, sites: str | Sequence[str]) -> tuple[Tap, ...]:
        """Taps in execution order, each once.

        Args:
            sites: `blocks` (embed, every block output, final_norm), `components` (these and every attn and mlp),
                `heads` (these and every head), `all` (these and logits), or a list of names and glob patterns
                (`L*.mlp`, `L3.neuron*`, `encoder.*.dense`). Patterns match canonical names, else module paths. In
                family `module`, `blocks` are the outermost parts that run, `components` the modules that own
                parameters, `all` every module.

        Raises:
            UnknownSite: a name or pattern matches nothing; `heads` on a model whose heads are unknown.
        """
        chosen: dict[str, Tap] = {}
        if isinstance(sites, str) and sites in PRESETS:
            chosen.update((tap.name, tap) for tap in self._preset(sites))
        else:
            for pattern in [sites] if isinstance(sites, str) else sites:
                chosen.update((tap.name, tap) for tap in self._matching(pattern))
        if not chosen:
            raise UnknownSite("no sites are selected", cure=f"Give one of {', '.join(PRESETS)}, or site names")
        return tuple(sorted(chosen.values(), key=lambda tap: (tap.order, tap.start or 0)))

    def components(self, granularity: Granularity = "component") -> tuple[Tap, ...]:
        """The sites that can be a cause, in execution order: attn and mlp, or with `head` single heads and mlp.

        Embedding, final norm and block outputs are not among them: each is a cut through the whole model. Family
            `module`
        has no such words: every module that owns parameters counts.

        Raises:
            UnknownSite: `head` on a model whose heads are unknown.
        """
        if self._body is None:
            return self._preset("components")
        if granularity == "head":
            self._need_heads()
        wanted = ("head", "mlp") if granularity == "head" else ("attn", "mlp")
        return tuple(tap for tap in self.taps if tap.kind in wanted)

    # --- building -------------------------------------------------------------------------------

    def _tap(
        self,
        name: str,
        kind: SiteKind,
        module: str,
        features: int,
        *,
        layer: int | None = None,
        index: int | None = None,
        part: tuple[int, int] | None = None,
    ) -> Tap:
        side: Literal["input", "output"] = "output" if part is None else "input"
        start, stop = part if part is not None else (None, None)
        order = 2 * self._finish[module] + (side == "output")
        return Tap(name, kind, layer, index, module, side, start, stop, features, order)

    def _family_taps(self, body: Body) -> Iterator[Tap]:
        width = body.blocks[0].width
        yield self._tap("embed", "embed", body.embed, width)
        for layer, block in enumerate(body.blocks):
            yield from self._block_taps(layer, block)
        if body.final_norm is not None:
            yield self._tap("final_norm", "final_norm", body.final_norm, width)
        yield self._logits_tap()

    def _block_taps(self, layer: int, block: Block) -> Iterator[Tap]:
        size = block.attn_inputs // block.heads if block.heads else 0
        for head in range(block.heads or 0):
            part = (head * size, (head + 1) * size)
            yield self._tap(f"L{layer}.head{head}", "head", block.attn, size, layer=layer, index=head, part=part)
        yield self._tap(f"L{layer}.attn", "attn", block.attn, block.width, layer=layer)
        yield self._tap(f"L{layer}.mlp", "mlp", block.mlp, block.width, layer=layer)
        yield self._tap(f"L{layer}.resid", "resid", block.path, block.width, layer=layer)

    def _logits_tap(self) -> Tap:
        """The unembedding or classifier of the model itself; a wrapper's logits are its own output."""
        for name in ("lm_head", "classifier"):
            sizes = projection_sizes(submodule(self._module, name))
            if sizes is not None and not _caps_logits(self._module):
                return self._tap("logits", "logits", name, sizes[1])
        return self._tap("logits", "logits", "", 0)

    def _generic_taps(self) -> Iterator[Tap]:
        for path, module in self._module.named_modules():
            if path and any(True for _ in module.parameters(recurse=False)):
                yield self._module_tap(path)
        yield self._tap("logits", "logits", "", 0)

    def _module_tap(self, path: str) -> Tap:
        return self._tap(path, "module", path, output_features(self._module.get_submodule(path)))

    def _neuron(self, layer: int, index: int) -> Tap | None:
        if self._body is None or layer >= len(self._body.blocks):
            return None
        block = self._body.blocks[layer]
        if block.neurons is None or index >= block.neurons:
            return None
        part = (index, index + 1)
        return self._tap(f"L{layer}.neuron{index}", "neuron", block.mlp, 1, layer=layer, index=index, part=part)

    # --- selecting ------------------------------------------------------------------------------

    def _preset(self, preset: str) -> tuple[Tap, ...]:
        if self._body is None:
            return self._generic_preset(preset)
        kinds = {"embed", "resid", "final_norm"}
        if preset != "blocks":
            kinds |= {"attn", "mlp"}
        if preset == "heads":
            self._need_heads()
        if preset in ("heads", "all"):
            kinds.add("head")
        if preset == "all":
            kinds.add("logits")
        return tuple(tap for tap in self.taps if tap.kind in kinds)

    def _generic_preset(self, preset: str) -> tuple[Tap, ...]:
        if preset == "heads":
            self._need_heads()
        if preset == "components":
            return tuple(tap for tap in self.taps if tap.kind == "module") or self.taps
        if preset == "blocks":
            return tuple(self._module_tap(path) for path in _outermost(self._module, "")) or self.taps
        paths = [path for path, module in self._module.named_modules() if path and _runs(module)]
        return (*(self._module_tap(path) for path in paths), self._named["logits"])

    def _need_heads(self) -> None:
        if not any(tap.kind == "head" for tap in self.taps):
            raise UnknownSite(
                f"the heads of this model (family {self.family}) are not known",
                where="heads",
                cure="Use components, or name module paths",
            )

    def _matching(self, pattern: str) -> list[Tap]:
        if not any(wildcard in pattern for wildcard in "*?["):
            return [self.get(pattern)]
        found = [tap for tap in self.taps if fnmatchcase(tap.name, pattern)]
        if "neuron" in pattern:
            found += [tap for tap in self._neurons() if fnmatchcase(tap.name, pattern)]
        if not found:
            paths = [path for path, module in self._module.named_modules() if path and _runs(module)]
            found = [self._module_tap(path) for path in paths if fnmatchcase(path, pattern)]
        if not found:
            raise self._unknown(pattern)
        return found

    def _neurons(self) -> Iterator[Tap]:
        for layer, block in enumerate(self._body.blocks if self._body is not None else ()):
            for index in range(block.neurons or 0):
                neuron = self._neuron(layer, index)
                if neuron is not None:
                    yield neuron

    def _unknown(self, name: str) -> UnknownSite:
        near = difflib.get_close_matches(name, [*self._named, *filter(None, self._finish)], n=4, cutoff=0.5)
        known = near or [tap.name for tap in self.taps[:4]]
        size = f", {self.layers} layers" if self.layers is not None else ""
        return UnknownSite(
            f"the model (family {self.family}{size}) has no such site",
            where=name,
            cure=f"Nearest names: {', '.join(known)}",
        )


def _post_order(module: nn.Module) -> list[str]:
    """Module paths, children before their parent; an iterative walk, because depth is the model's to choose."""
    paths: list[str] = []
    stack: list[tuple[str, nn.Module]] = [("", module)]
    while stack:
        path, current = stack.pop()
        paths.append(path)
        for name, child in current._modules.items():
            if child is not None:
                stack.append((f"{path}.{name}" if path else name, child))
    paths.reverse()  # parent-before-child with the last child first, reversed, is post-order
    return paths


def _runs(module: nn.Module) -> bool:
    return not isinstance(module, _WITHOUT_FORWARD)


def _outermost(module: nn.Module, path: str) -> Iterator[str]:
    """The shallowest modules that run, looking into plain lists and sequences."""
    for name, child in module.named_children():
        child_path = f"{path}.{name}" if path else name
        if isinstance(child, (*_WITHOUT_FORWARD, nn.Sequential)):
            yield from _outermost(child, child_path)
        else:
            yield child_path


def _caps_logits(module: nn.Module) -> bool:
    """Whether the model changes what its unembedding returns (Gemma 2), so that only its own output is the logits."""
    return getattr(getattr(module, "config", None), "final_logit_softcapping", None) is not None
