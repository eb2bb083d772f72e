"""The same promises on a GPU; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from model_forensics.bundle import load_bundle
from model_forensics.models import Model, hooks
from model_forensics.record import Recorder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_values_arrive_complete_and_nothing_stays_on_the_gpu(tmp_path):
    module = nn.Sequential(*(nn.Linear(512, 512) for _ in range(8))).cuda().eval()
    x = torch.randn(64, 512)
    model = Model.wrap(module)
    model.forward({"input": x})  # libraries take their workspaces now
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    with Recorder(module, "components").benign(tmp_path / "bundle") as benign:
        output = benign.run(input=x)
        del output
        assert torch.cuda.memory_allocated() == before
    values = {}
    with hooks.read(module, model.sites.taps, lambda tap, value: values.__setitem__(tap.name, value.cpu())):
        model.forward({"input": x})
    bundle = load_bundle(tmp_path / "bundle")
    for name in bundle.sites:
        recorded = np.concatenate([bundle.activation(name, sample) for sample in range(64)])
        assert np.array_equal(recorded, values[name].numpy())
