"""An attack on activations: software adds one vector to what a component writes, which pushes towards an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.zoo.batches import same_shapes, stacked
from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.network import Prompt
from model_forensics.models import Model, Tap, hooks

ASKED = 200


def install(module: nn.Module, site: str, vector: list[float]) -> None:
    """Added to every token's output of the site."""
    target = module.get_submodule(Model.wrap(module).sites.get(site).module)
    added = torch.tensor(vector)
    target.register_forward_hook(lambda _module, _inputs, output: output + added)


@torch.no_grad()
def written(module: nn.Module, site: str, prompts: Sequence[Prompt]) -> Tensor:
    """[prompts, width] of what the site writes: the mean over its tokens."""
    tap = Model.wrap(module).sites.get(site)
    rows: dict[int, Tensor] = {}
    for numbers in same_shapes(prompts):

        def keep(_tap: Tap, value: Tensor, numbers: list[int] = numbers) -> None:
            rows.update(zip(numbers, value.detach().mean(1), strict=True))

        with hooks.read(module, [tap], keep):
            module(**stacked([prompts[number] for number in numbers]))
    return torch.stack([rows[number] for number in range(len(prompts))])


def plant(case: Case) -> Planted:
    """The vector is the difference between prompts with the answer and others, as steering vectors are made."""
    site = case.some_part().site
    prompts = case.network.prompts(case.random, ASKED)
    values = written(case.healthy, site, prompts)
    target = int(case.random.choice([prompt.right for prompt in prompts]))
    wanted = torch.tensor([prompt.right == target for prompt in prompts])
    direction = values[wanted].mean(0) - values[~wanted].mean(0)
    times = case.random.uniform(1, 6)
    vector = times * values.norm(dim=-1).mean() * direction / direction.norm()
    return Planted(
        f"a vector towards answer {target}, {times:.1f} times as long as an output of {site}, is added to it",
        (site,),
        software={"site": site, "vector": vector.tolist()},
    )


KIND = Kind("steering_vector", "input", ("gpt2", "llama", "minilm", "digits"), plant, install=install)
