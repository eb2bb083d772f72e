"""The sections and keys of the configuration. Every default lives here and nowhere else.

The text below each key is its description in `info --schema` and docs/configuration.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from model_forensics.config.sizes import Size

VERSION: Final = "1.1"
NEW_IN_1_1 = frozenset({"audit_log", "cache", "log_format", "log_rotation", "streaming"})

CompressionMethod = Literal["zlib", "gzip", "arithmetic"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def _place(value: Any) -> Any:
    if isinstance(value, str | Path):
        if not str(value).strip() or "\0" in str(value):
            raise ValueError("not a path")
        return Path(value).expanduser()
    return value


Place = Annotated[Path, BeforeValidator(_place)]


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise ValueError(f"{value!r} is no device: auto, cpu, cuda, or cuda:1 and so on")
    return value


_DEVICE_SCHEMA = {"type": "string", "pattern": f"^({_DEVICE.pattern})$"}
Device = Annotated[str, AfterValidator(_device), WithJsonSchema(_DEVICE_SCHEMA)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ForensicsConfig(_Section):
    """`modules.cf`: compression forensics."""

    enabled: bool = True
    """Judge sites against the baseline. Without it only fix sets are searched."""
    anomaly_threshold: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """Sites above this many sigma are anomalous; 2.0 means that 2.3 % of benign sites exceed it."""
    compression_methods: tuple[CompressionMethod, ...] = Field(default=("zlib", "gzip", "arithmetic"), min_length=1)
    """What sites are encoded with. `arithmetic` sees the most; the others are there for comparison."""
    entropy_window: int = Field(default=256, ge=16)
    """Symbols in one entropy window."""
    baseline_samples: int = Field(default=50, ge=1)
    """At most this many benign samples are fitted, chosen deterministically and balanced over groups."""


class CausalConfig(_Section):
    """`modules.cca`: causal minimal fix sets."""

    enabled: bool = True
    """Search fix sets. Without it nothing is proven, only located."""
    search_strategy: Literal["greedy", "beam", "random"] = "greedy"
    """How sets grow; shrinking, subsets and exhaustion follow whichever it is (docs/fix-sets.md)."""
    beam_width: int = Field(default=8, ge=1)
    """Sets that `beam` keeps of each size."""
    max_fix_set_size: int = Field(default=5, ge=1)
    """At most this many interventions in one set."""
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
    """What may be done at a site: set it to zero, to the benign mean, or to a donor's activation."""
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


class LaterModule(_Section):
    """A module that this version does not have."""

    enabled: bool = False
    """Not in this version: `true` is refused."""

    @field_validator("enabled")
    @classmethod
    def _check(cls, enabled: bool) -> bool:
        if enabled:
            raise ValueError("this module is not in this version; set it to false, or remove it")
        return enabled


class ModulesConfig(_Section):
    """`modules`: what an analysis consists of."""

    cf: ForensicsConfig = ForensicsConfig()
    cca: CausalConfig = CausalConfig()
    isc: LaterModule = LaterModule()
    dbc: LaterModule = LaterModule()
    provenance: LaterModule = LaterModule()


class LogRotationConfig(_Section):
    """`log_rotation`: when a log file is set aside. Rotation by other programs is noticed too."""

    size: Size = 100_000_000
    """A log file that has grown to this size is renamed, and a new one begun."""
    keep: int = Field(default=10, ge=1)
    """Renamed log files that stay, as FILE.1 (the latest), FILE.2 and so on; older ones are deleted."""


class CacheConfig(_Section):
    """`cache`: results of expensive steps, kept for the next analysis of the same things."""

    enabled: bool = True
    """Use the cache."""
    size: Size = 10_000_000_000
    """What the cache may take on disk; what was not used for longest goes first."""
    directory: Place | None = None
    """Where it is. null: `model-forensics` in the user's cache directory (`$XDG_CACHE_HOME`, `~/.cache`)."""


class StreamingConfig(_Section):
    """`streaming`: bundles that are larger than memory."""

    enabled: bool = False
    """Read every bundle in parts. Without it only those that exceed `max_memory` are read so."""
    max_memory: Size = 16_000_000_000
    """Bundles that would take more are streamed. Where it is stated, processes that work together share it, and it also
    limits what one batch of a fix-set search is planned to take beside the model; where it is not, a GPU's batch may
    take 80 % of what is free."""

    @property
    def stated_max_memory(self) -> int | None:
        """`max_memory` in bytes where somebody stated it, None where it is the default."""
        return self.max_memory if "max_memory" in self.model_fields_set else None

    def shared_by(self, processes: int) -> StreamingConfig:
        """The settings of each of several processes that keep to a stated ceiling together."""
        stated = self.stated_max_memory
        return self if stated is None else self.model_copy(update={"max_memory": max(1, stated // processes)})


class Config(_Section):
    """The whole configuration."""

    version: Literal["1.1"] = VERSION
    """The version of this shape. A file without it has version 1.0, which lacks the keys that 1.1 brought."""
    bundle_dir: Place = Path("bundles")
    """Where bundles are looked for: by commands that take a directory and got none, and for a relative path that leads
    nowhere from the current directory."""
    output_dir: Place = Path("analysis_results")
    """Where results go that no other place was given for, as `<bundle id>.json` and `.html`."""
    baseline_dir: Place | None = None
    """The baseline of analyses that are given none: a fitted one, a benign bundle or a directory of them."""
    device: Device = "auto"
    """Where models run: `auto` (the first GPU, if there is one), `cpu`, `cuda` or `cuda:1`."""
    timeout_minutes: float = Field(default=120, gt=0, allow_inf_nan=False)
    """A search for a fix set stops after this time and reports the best so far."""
    seed: int = Field(default=0, ge=0)
    """Fixes what is drawn at random."""
    log_level: LogLevel = "INFO"
    """Log lines of this level and above are written: DEBUG, INFO, WARNING or ERROR."""
    log_file: Place | None = None
    """Where log lines go. null: to standard error, and then only warnings and errors unless `log_level` is stated."""
    log_format: Literal["text", "json"] = "text"
    """`json` writes each log line as one JSON object."""
    log_rotation: LogRotationConfig = LogRotationConfig()
    cache: CacheConfig = CacheConfig()
    streaming: StreamingConfig = StreamingConfig()
    audit_log: Place | None = None
    """The file that records who did what on which digests (JSON lines, hash-chained). null: none is kept."""
    modules: ModulesConfig = ModulesConfig()

    @field_validator("version", mode="before")
    @classmethod
    def _version(cls, value: Any) -> Any:
        return str(value).removeprefix("v") if isinstance(value, str | float) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _level(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @staticmethod
    def from_dict(values: Mapping[str, Any], where: str | Path | None = None) -> Config:
        """Checks a configuration of this shape.

        Raises:
            ConfigError: a key is unknown or a value is out of range; names the key, and the right one where it is near.
        """
        from model_forensics.config.checks import dotted, validated  # noqa: PLC0415  (they need the classes above)

        return validated(dotted(values, lambda _key: where), lambda _key: where)
