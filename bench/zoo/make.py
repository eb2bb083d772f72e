"""Makes the incidents: trains the networks, plants the faults, records, and runs the sets that remove them.

    zoo/networks/gpt2-0/                  a healthy network, and `earlier` beside its files
    zoo/incidents/flipped_bits-003/       truth.json, model, reference (half of them), incident, benign

An incident that is there is left as it is, so `make` goes on where it was.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.zoo import loading, truth
from bench.zoo.kind import Case, Draw, Kind, Planted, Unplantable
from bench.zoo.kinds import all_kinds
from bench.zoo.network import Prompt
from bench.zoo.networks import NETWORKS
from bench.zoo.plan import Entry
from bench.zoo.training import last_logits
from model_forensics import Failure, Recorder
from model_forensics.errors import UsageError
from model_forensics.files import atomic_directory
from model_forensics.models import Model

SAMPLES = 24
"""Failing prompts of an incident."""
BENIGN = 32
"""Healthy recordings of other prompts."""
TRIES = 40
"""Faults that are planted, one after the other, until enough prompts fail."""
CHOSEN_FROM = 4
"""Faults after which enough prompts fail, at most, of which one is taken that is what its kind says."""
DRAWN = 600
"""Prompts that are asked of one fault, at most; after `FIRST`, only where some failed."""
FIRST = 80
SOME = 4


def network_directory(root: Path, name: str, seed: int) -> Path:
    return root / "networks" / f"{name}-{seed}"


def train(root: Path, name: str, seed: int) -> Path:
    """The healthy network's directory, trained where it is not there yet."""
    place = network_directory(root, name, seed)
    if not place.exists():
        trained = NETWORKS[name].train(seed)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_directory(place) as staged:
                NETWORKS[name].save(trained.module, staged)
                NETWORKS[name].save(trained.earlier, staged / "earlier")
        except UsageError:
            if not place.exists():  # another process was not faster
                raise
    return place


def make(root: Path, entry: Entry) -> Path:
    """The incident's directory, made where it is not there yet.

    Where a network has no fault of the kind, as a training may have it, the kind's next one takes its place.

    Raises:
        Unplantable: none of its networks has one.
    """
    place = root / "incidents" / entry.name
    if place.exists():
        return place
    kind, said = all_kinds()[entry.kind], []
    first = kind.networks.index(entry.network)
    for name in (*kind.networks[first:], *kind.networks[:first]):
        try:
            _make(root, place, kind, replace(entry, network=name))
        except Unplantable as problem:
            said.append(str(problem))
        else:
            return place
    raise Unplantable("; ".join(said))


def _make(root: Path, place: Path, kind: Kind, entry: Entry) -> None:
    network = NETWORKS[entry.network]
    stored = train(root, entry.network, entry.training)
    healthy, earlier = network.load(stored), network.load(stored / "earlier")
    made = plant(kind, entry, healthy, earlier)
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_directory(place) as staged:
        _store_models(staged, Path("../../networks") / stored.name, entry, made, healthy)
        record(Model.wrap(made.module), staged / "incident", made.failing, kind.failure or network.failure)
        record(Model.wrap(healthy), staged / "benign", made.benign, None)
        (staged / "truth.json").write_text(json.dumps(described(entry, kind, made), indent=1) + "\n")


@dataclass(frozen=True)
class Made:
    """A fault with what was asked.

    Attributes:
        module: damaged, software damage included.
        failing, benign: prompts of the incident, and of the healthy recordings.
        repaired: what sets of the damaged components do to the failing ones.
        tries: faults that were planted until enough prompts failed; `share`: of prompts, how many fail.
    """

    planted: Planted
    module: nn.Module
    changed: dict[str, torch.Tensor]
    failing: list[Prompt]
    benign: list[Prompt]
    repaired: list[truth.Repaired]
    tries: int
    share: float


def plant(kind: Kind, entry: Entry, healthy: nn.Module, earlier: nn.Module) -> Made:
    """A fault after which enough prompts fail, and that is what the kind says.

    Raises:
        Unplantable: there is none among those that were tried.
    """
    tried = 0
    for made in islice(_faults(kind, entry, healthy, earlier), CHOSEN_FROM):
        if kind.is_one(made.planted.sites, truth.minimal(made.repaired)):
            return made
        tried += 1
    why = f"{SAMPLES} prompts failed after none of {TRIES} faults"
    if tried:
        why = f"none of {tried} faults after which {SAMPLES} prompts failed was that for these"
    raise Unplantable(f"{kind.name} in {entry.network}: {why}")


def _faults(kind: Kind, entry: Entry, healthy: nn.Module, earlier: nn.Module) -> Iterator[Made]:
    network = NETWORKS[entry.network]
    random = np.random.default_rng([entry.seed, zlib.crc32(kind.name.encode())])
    for number in range(TRIES):
        module = copy.deepcopy(healthy)
        planted = kind.plant(Case(network, healthy, module, earlier, random))
        changed = loading.differences(module, healthy)
        if planted.software is not None:
            assert kind.install is not None, f"{kind.name} has software damage and no `install`"
            kind.install(module, **planted.software)
        failing, share = find_failing(kind, planted.prompts or network.prompts, module, healthy, random)
        if len(failing) == SAMPLES:
            others = _others(planted.benign or network.prompts, random, {prompt.text for prompt in failing})
            before = planted.before or (lambda prompt: prompt)
            benign = [*map(before, failing), *others] if entry.same_requests else others
            repaired = truth.repairs(module, healthy, failing, kind.failure or network.failure, planted.sites)
            yield Made(planted, module, changed, failing, benign, repaired, number + 1, share)


def _others(draw: Draw, random: np.random.Generator, failing: set[str]) -> list[Prompt]:
    """Healthy prompts of texts that do not fail."""
    others = [prompt for prompt in draw(random, 4 * BENIGN) if prompt.text not in failing][:BENIGN]
    if len(others) < BENIGN:
        raise Unplantable(f"only {len(others)} of {4 * BENIGN} other prompts do not fail")
    return others


def find_failing(
    kind: Kind,
    draw: Draw,
    module: nn.Module,
    healthy: nn.Module,
    random: np.random.Generator,
) -> tuple[list[Prompt], float]:
    """Up to `SAMPLES` prompts of different texts that become part of the incident, and the share that does."""
    found: dict[str, Prompt] = {}
    asked = 0
    for asked, prompt in enumerate(draw(random, DRAWN), start=1):
        if prompt.text not in found and kind.fails(prompt, answer(module, prompt), answer(healthy, prompt)):
            found[prompt.text] = prompt
        if len(found) == SAMPLES or (asked == FIRST and len(found) < SOME):
            break
    return list(found.values()), len(found) / max(asked, 1)


@torch.no_grad()
def answer(module: nn.Module, prompt: Prompt) -> int:
    """The class or token that the network prefers; -1 where its output is not finite."""
    logits = last_logits(module, prompt.inputs)[0]
    return int(logits.argmax()) if bool(torch.isfinite(logits).all()) else -1


def record(model: Model, place: Path, prompts: Sequence[Prompt], failure: Failure | None) -> None:
    """Each prompt alone in its batch, one group a text."""
    recorder = Recorder(model, sites="components")
    session = recorder.benign(place) if failure is None else recorder.incident(place, failure=failure)
    with session as recording:
        for prompt in prompts:
            recording.run(**prompt.inputs, texts=[prompt.text], groups=[prompt.text], right=[[prompt.right]])


def _store_models(place: Path, healthy: Path, entry: Entry, made: Made, module: nn.Module) -> None:
    software = made.planted.software
    kind = None if software is None else entry.kind
    inside = str(Path("..") / healthy)
    loading.store(place / "model", entry.network, inside, kind, software, made.changed)
    if entry.reference:
        loading.store(place / "reference", entry.network, inside, None, None, {})


def described(entry: Entry, kind: Kind, made: Made) -> dict[str, Any]:
    """What `truth.json` holds."""
    repaired = made.repaired
    minimal = truth.minimal(repaired)
    return {
        "kind": kind.name,
        "family": kind.family,
        "network": entry.network,
        "seed": entry.seed,
        "split": entry.split,
        "reference": entry.reference,
        "same_requests": entry.same_requests,
        "how": made.planted.how,
        "damaged": list(made.planted.sites),
        "diffuse": len(made.planted.sites) > truth.MOST_SITES or (bool(made.planted.sites) and not minimal),
        "minimal_fix_sets": [list(one) for one in minimal],
        "restoring_sets": [list(one) for one in truth.restoring(repaired)],
        "runs": [{**asdict(one), "sites": list(one.sites)} for one in repaired],
        "failing_share": made.share,
        "tries": made.tries,
    }
