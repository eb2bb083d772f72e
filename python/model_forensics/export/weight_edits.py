"""Which weights to change, and to what, so that the model computes what a fix set writes.

A component's output is the output of one linear map y = W x + b. Replaced by a constant c at every token, it is W = 0
and b = c. A head or neuron is a slice x_S of what enters the map: replaced by c, it is W_S = 0 and b + W_S c. Where
there is no b, only c = 0 is possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from model_forensics.errors import InterventionError
from model_forensics.models import Model
from model_forensics.types import WrittenSite

_LINEAR = {"Linear": False, "Conv1D": True}  # class → whether its weight is [inputs, outputs]


def edited_weights(model: Model, sites: Sequence[WrittenSite]) -> dict[str, Tensor]:
    """New tensors by name, for sites that get a constant.

    Raises:
        InterventionError: a site where no weights say the same; names it and the reason.
    """
    changes: dict[str, Tensor] = {}
    # A whole output overrides what its parts would have done.
    for site in sorted(sites, key=lambda site: site.start is None):
        module = model.module.get_submodule(site.module)
        if type(module).__name__ not in _LINEAR:
            raise _refused(site, f"its output comes from a {type(module).__name__}, which is no linear map")
        assert site.constant is not None
        constant = torch.from_numpy(site.constant)
        weight = changes.get(f"{site.module}.weight", _own(model, site, module, "weight"))
        bias = changes.get(f"{site.module}.bias", _own(model, site, module, "bias"))
        if bias is None and bool(constant.any()):
            raise _refused(site, "the map has no bias to hold the values")
        assert weight is not None
        new_weight, new_bias = _constant(site, weight, bias, constant, transposed=_LINEAR[type(module).__name__])
        changes[f"{site.module}.weight"] = new_weight
        if new_bias is not None:
            changes[f"{site.module}.bias"] = new_bias
    return changes


def _constant(
    site: WrittenSite, weight: Tensor, bias: Tensor | None, constant: Tensor, *, transposed: bool
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias with the constant in place; new tensors."""
    weight = weight.clone()
    if site.side == "output":
        weight.zero_()
        return weight, None if bias is None else constant.to(bias)
    columns = weight.T if transposed else weight  # [outputs, inputs], a view
    part = columns[:, site.start : site.stop]
    if bias is not None:
        # Summed in float64 and rounded once: the weights' own type may hold 8 bits.
        bias = (bias.double() + part.double() @ constant.to(part.device).double()).to(bias.dtype)
    part.zero_()
    return weight, bias


def _own(model: Model, site: WrittenSite, module: nn.Module, name: str) -> Tensor | None:
    """A plain parameter of the module that no other module shares.

    Raises:
        InterventionError: it is quantised, packed or shared.
    """
    value = getattr(module, name, None)
    if value is None and name == "bias":
        return None
    if not isinstance(value, nn.Parameter) or not value.is_floating_point() or value.is_meta:
        raise _refused(site, f"its {name} is not a plain floating-point tensor")
    place = value.data_ptr()
    own = f"{site.module}.{name}"
    sharing = [other for other, tensor in model.module.state_dict().items() if tensor.data_ptr() == place]
    if [other for other in sharing if other != own]:
        raise _refused(site, f"its {name} is shared with {next(other for other in sharing if other != own)}")
    return value.detach()


def copied_weights(model: Model, donor: Model | None, sites: Sequence[WrittenSite]) -> Iterator[dict[str, Tensor]]:
    """What could stand for patches from a reference model: its weights at the sites, the fewest first.

    First those of the last projection alone, then those of the attention or MLP that it ends. A patch writes what the
    donor computes from the donor's own values before it; copied weights compute from the model's. Whether that comes
    to the same is for the caller to find out by running it.

    Raises:
        InterventionError: patches that depend on the input and come from no model, or go to a part of a component.
    """
    for site in sites:
        donor_kind = site.intervention.donor.kind if site.intervention.donor is not None else "none"
        if donor_kind != "reference_model" or donor is None:
            raise _refused(site, "the patch writes what a donor computed on each input, which no fixed weights hold")
        if site.start is not None:
            raise _refused(site, "what enters a part of a projection is computed by weights that other parts share")
    for enclosing in (False, True):
        paths = [_enclosing(site.module) if enclosing else site.module for site in sites]
        yield _copied(model, donor, paths, sites)


def _copied(model: Model, donor: Model | None, paths: Sequence[str], sites: Sequence[WrittenSite]) -> dict[str, Tensor]:
    assert donor is not None
    ours, theirs = model.module.state_dict(), donor.module.state_dict()
    found: dict[str, Tensor] = {}
    for path, site in zip(paths, sites, strict=True):
        for name in ours:
            if not name.startswith(f"{path}."):
                continue
            if name not in theirs or theirs[name].shape != ours[name].shape:
                raise _refused(site, f"the donor has no {name} of the same shape")
            if not torch.equal(theirs[name].to(ours[name]), ours[name]):
                found[name] = theirs[name]
    return found


def _enclosing(path: str) -> str:
    """`transformer.h.2.mlp` for `transformer.h.2.mlp.c_proj`; the path itself where it is directly in a block."""
    parent, _, _ = path.rpartition(".")
    return parent if parent and not parent.rpartition(".")[2].isdigit() else path


def _refused(site: WrittenSite, why: str) -> InterventionError:
    return InterventionError(
        f"{site.intervention.kind} cannot be written as weights: {why}",
        where=site.intervention.site,
        cure="Use --export-hook, which changes no weights",
    )
