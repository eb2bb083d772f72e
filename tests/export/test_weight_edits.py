"""Edited weights: what a fix set writes, said by the weights; refused by name where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from model_forensics.errors import InterventionError
from model_forensics.export.weight_edits import copied_weights, edited_weights
from model_forensics.models import Model
from model_forensics.types import Donor, Intervention, WrittenSite

FEATURES = 6


class Net(nn.Module):
    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, FEATURES)
        self.last = nn.Linear(FEATURES, 4, bias=bias)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.last(self.first(x)))


def written(module="last", constant=None, *, start=None, stop=None, kind="mean", donor=None) -> WrittenSite:
    side = "output" if start is None else "input"
    rows = None if constant is not None else ()
    return WrittenSite(Intervention(site="s", kind=kind, donor=donor), module, side, start, stop, constant, rows)


def applied(net: nn.Module, changes: dict[str, torch.Tensor]) -> nn.Module:
    with torch.no_grad():
        for name, value in changes.items():
            net.state_dict()[name].copy_(value)
    return net


def test_a_whole_output_becomes_the_constant():
    net, constant = Net(), np.arange(4, dtype=np.float32)
    applied(net, edited_weights(Model.wrap(net), [written(constant=constant)]))
    assert torch.equal(net.last(torch.randn(3, FEATURES)), torch.from_numpy(constant).expand(3, -1))


def test_a_part_of_an_input_becomes_the_constant():
    net, part = Net(), np.array([2.0, -3.0], np.float32)
    x = torch.randn(5, FEATURES)
    replaced = x.clone()
    replaced[:, 1:3] = torch.from_numpy(part)
    expected = net.last(replaced).detach()
    applied(net, edited_weights(Model.wrap(net), [written(constant=part, start=1, stop=3)]))
    torch.testing.assert_close(net.last(x), expected)


def test_a_part_and_then_the_whole_of_one_map():
    net = Net()
    whole, part = np.ones(4, np.float32), np.ones(2, np.float32)
    sites = [written(constant=whole), written(constant=part, start=0, stop=2)]
    applied(net, edited_weights(Model.wrap(net), sites))
    assert torch.equal(net.last(torch.randn(1, FEATURES)), torch.ones(1, 4))


def test_what_no_weights_can_say_is_refused():
    ones = np.ones(4, np.float32)
    with pytest.raises(InterventionError, match="no bias"):
        edited_weights(Model.wrap(Net(bias=False)), [written(constant=ones)])
    assert edited_weights(Model.wrap(Net(bias=False)), [written(constant=0 * ones, kind="zero")])
    with pytest.raises(InterventionError, match="no linear map"):
        edited_weights(Model.wrap(Net()), [written("norm", ones)])
    tied = Net()
    tied.other = nn.Linear(FEATURES, 4)
    tied.other.weight = tied.last.weight
    with pytest.raises(InterventionError, match=r"shared with other\.weight"):
        edited_weights(Model.wrap(tied), [written(constant=ones)])


def test_patches_are_copied_from_a_reference_model_only():
    reference = Donor(kind="reference_model", source=None, same_input=True)
    recorded = Donor(kind="benign_sample", source=None, same_input=True)
    model, donor = Model.wrap(Net()), Model.wrap(Net())
    first, *_ = copied_weights(model, donor, [written(kind="patch", donor=reference)])
    assert set(first) == {"last.weight", "last.bias"}
    with pytest.raises(InterventionError, match="no fixed weights"):
        list(copied_weights(model, donor, [written(kind="patch", donor=recorded)]))
    with pytest.raises(InterventionError, match="part of a projection"):
        list(copied_weights(model, donor, [written(kind="patch", donor=reference, start=0, stop=2)]))
