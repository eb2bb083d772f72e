"""The factory of the zoo's models: `--model-factory bench.zoo.loading:build`.

A model is a directory with `subject.json`: which healthy network it was made from, and which software damage to install
when it is loaded. The weights that differ from the healthy network's are beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bench.zoo.kinds import all_kinds
from bench.zoo.networks import NETWORKS

SUBJECT, WEIGHTS = "subject.json", "changed.safetensors"


def build(source: str | None) -> nn.Module:
    """The module of a directory that `store` wrote."""
    assert source is not None, "the zoo's factory builds from a directory"
    directory = Path(source)
    subject: dict[str, Any] = json.loads((directory / SUBJECT).read_text())
    module = NETWORKS[subject["network"]].load((directory / subject["healthy"]).resolve())
    if (directory / WEIGHTS).exists():
        module.load_state_dict(load_file(directory / WEIGHTS), strict=False)
    if subject["kind"] is not None:
        install = all_kinds()[subject["kind"]].install
        assert install is not None, "only kinds that install software damage are named here"
        install(module, **subject["software"])
    return module.eval()


def store(
    directory: Path, network: str, healthy: str, kind: str | None, software: Any, changed: dict[str, torch.Tensor]
) -> None:
    """Writes what `build` reads.

    Args:
        healthy: the healthy network's directory, as seen from this one.
        kind, software: of the software damage; None without.
    """
    directory.mkdir(parents=True)
    subject = {"network": network, "healthy": healthy, "kind": kind, "software": software}
    (directory / SUBJECT).write_text(json.dumps(subject, indent=1) + "\n")
    if changed:
        save_file({name: value.contiguous() for name, value in changed.items()}, directory / WEIGHTS)


def differences(module: nn.Module, healthy: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of `module` that are not bit for bit those of `healthy`."""
    before = healthy.state_dict()
    return {
        name: value.clone()
        for name, value in module.state_dict().items()
        if not torch.equal(value.view(torch.uint8), before[name].view(torch.uint8))
    }
