"""The typed configuration. Every default lives here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_forensics.errors import ConfigError

CompressionMethod = Literal["zlib", "gzip", "arithmetic"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ForensicsConfig(_Section):
    """`modules.cf`: compression forensics."""

    enabled: bool = True
    anomaly_threshold: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """Sites above this many sigma are anomalous; 2.0 means that 2.3 % of benign sites exceed it."""
    compression_methods: tuple[CompressionMethod, ...] = Field(default=("zlib", "gzip", "arithmetic"), min_length=1)
    entropy_window: int = Field(default=256, ge=16)
    """Symbols in one entropy window."""
    baseline_samples: int = Field(default=50, ge=1)
    """At most this many benign samples are fitted, chosen deterministically and balanced over groups."""


class CausalConfig(_Section):
    """`modules.cca`: causal minimal fix sets."""

    enabled: bool = True
    search_strategy: Literal["greedy", "beam", "random"] = "greedy"
    """How sets grow; shrinking, subsets and exhaustion follow whichever it is (docs/fix-sets.md)."""
    beam_width: int = Field(default=8, ge=1)
    """Sets that `beam` keeps of each size."""
    max_fix_set_size: int = Field(default=5, ge=1)
    max_alternatives: int = Field(default=5, ge=0)
    """Further minimal sets that are looked for and measured, at most."""
    max_stage_sets: int = Field(default=2500, ge=1)
    """Sets that one stage of the search may run, at most: random draws, all sets of one size, all subsets of a set,
    the shrinking of everything, alternatives."""
    early_stop_threshold: float = Field(default=0.8, gt=0, le=1)
    """A set is sufficient when at least this share of the incident's samples flips."""
    intervention_types: tuple[Literal["zero", "mean", "patch"], ...] = Field(
        default=("zero", "mean", "patch"), min_length=1
    )
    donor: Literal["auto", "reference_model", "benign_sample", "contrast", "given"] = "auto"
    """What patches are taken from; `auto` takes what is given, else benign samples of the same inputs."""
    donor_sample: str | None = Field(default=None, min_length=1)
    """The benign sample that patches are taken from, by sample_id or bundle id/sample_id. Naming it declares that its
    token i corresponds to token i of every incident sample."""
    granularity: Literal["component", "head"] = "component"
    """`component`: attention and MLP outputs. `head`: single heads and MLP outputs."""
    refine: bool = True
    """Look for heads, neurons and positions inside the fix set that repair as well; needs a reference model."""
    evidence: Literal["standard", "full"] = "standard"
    """`full` repeats the whole search with the donor's activations shuffled, 19 times, for a p-value of the fix set."""
    max_pool_sites: int = Field(default=256, ge=1)
    """Sites that are searched first where there are more; the others follow if these prove the wrong ones."""
    max_batch_rows: int = Field(default=64, ge=1)
    """Candidate sets × samples that go through the model in one forward; of rows that are run at few tokens, up to four
    times as many."""

    @model_validator(mode="after")
    def _check(self) -> CausalConfig:
        if self.donor != "auto" and "patch" not in self.intervention_types:
            raise ValueError(f"donor '{self.donor}' is what patches are taken from, but 'patch' is not allowed")
        if self.donor_sample is not None and self.donor != "benign_sample":
            raise ValueError(f"donor_sample names a benign sample, but donor is '{self.donor}'")
        if len(set(self.intervention_types)) < len(self.intervention_types):
            raise ValueError("intervention_types names a kind twice")
        return self


class ModulesConfig(_Section):
    cf: ForensicsConfig = ForensicsConfig()
    cca: CausalConfig = CausalConfig()


class Config(_Section):
    """The whole configuration."""

    output_dir: Path = Path("analysis_results")
    baseline_dir: Path | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    timeout_minutes: float = Field(default=120, gt=0)
    seed: int = Field(default=0, ge=0)
    modules: ModulesConfig = ModulesConfig()

    @staticmethod
    def from_dict(values: dict[str, Any], where: str | Path | None = None) -> Config:
        """Checks a configuration of this shape.

        Raises:
            ConfigError: a key is unknown or a value is out of range; names the key.
        """
        try:
            return Config.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ConfigError(
                f"{key or 'the configuration'}: {first['msg']}", where=where, cure="Correct this key"
            ) from error
