"""What the search for causal minimal fix sets found, and the evidence for it."""

from __future__ import annotations

from typing import Literal

from model_forensics.types.base import Frozen, Printable

InterventionKind = Literal["zero", "mean", "patch"]
DonorKind = Literal["benign_mean", "benign_sample", "contrast", "reference_model", "given"]
Minimality = Literal["none", "local", "subset", "cardinality"]


class Interval(Frozen):
    low: float
    high: float
    level: float = 0.95
    method: str = "Clopper-Pearson"


class Donor(Frozen):
    """Where replacement activations come from."""

    kind: DonorKind
    source: Printable | None  # bundle path, model source or file
    weights_digest: str | None = None
    content_digest: str | None = None  # "sha256:…" of given values
    same_input: bool  # the donor ran on the very same input, so positions correspond


class Intervention(Frozen):
    """One edit at one site."""

    site: str
    kind: InterventionKind
    donor: Donor | None = None  # null for zero
    positions: tuple[int, ...] | None = None  # token positions, null for all

    def __str__(self) -> str:
        return f"{self.kind} {self.site}"


class SideEffects(Frozen):
    """What a fix set does to benign samples, against their recorded outputs."""

    samples: int
    changed: int  # top-1 output differs from the recorded one, with the fix
    changed_without_fix: int  # the same without the fix (not zero when the model's version differs)
    changed_rate: float
    interval: Interval
    kl_mean_bits: float
    kl_max_bits: float


class Certificate(Frozen):
    """What a fix set's level of minimality rests on; all on the samples that the search saw."""

    candidates: int  # interventions that sets were drawn from
    exhausted: int  # every set of these up to this size was run
    forwards: int  # rows run through the model when the search ended, self-checks included


class Finer(Frozen):
    """Parts of a fix set's components that repair as well; measured on the samples of its evidence.

    Not a claim of cause: at single positions a patch may merely carry the answer.
    """

    interventions: tuple[Intervention, ...]  # heads, `L3.neuron64-79` for neighbouring neurons, and positions
    flip_rate: float
    samples: int
    recovery: float | None
    bits_replaced: float


class CopyCheck(Frozen):
    """Whether a set makes the run answer whatever its donor answered.

    So does a component that is damaged and one that merely passes on what was damaged before it. What a set copies is
    therefore held against the flip rate of a repair of everything before it.
    """

    checks: int  # runs with the activations of a healthy run on another input, which gave another answer
    copied: int  # of these, runs that gave that other answer
    upstream_flip_rate: float | None  # with all that runs before the set's last member patched instead; null unless the
    # set copies, and where the donor ran on other inputs or holds nothing before it
    upstream_restores: bool | None = None  # whether these runs give the donor's output as well; null with the rate


class Shams(Frozen):
    """Sets drawn to resemble a fix set: same kinds of sites, interventions and positions, similar depth and bits."""

    sets: int
    sufficient: int
    interval: Interval  # of the share that is sufficient
    flip_rate: float  # mean over the sets
    highest_flip_rate: float
    layer_distance: int  # a member's stand-in was at most so many layers away
    bits_ratio: float  # and at most so many times as large or small in bits replaced


class Reversal(Frozen):
    """The incident's activations at a fix set's sites, put into the reference model's runs on the same inputs."""

    samples: int
    failures: int  # of these, how many then fail
    interval: Interval  # over groups


class Shuffled(Frozen):
    """The whole search, repeated with the donor's activations dealt out among the samples at random."""

    repeats: int
    as_good: int  # repeats that found a set of at most as many components that does as well on held-out samples
    p_value: float | None  # (1 + as_good) / (1 + repeats); null with fewer than 19 repeats


FixSetLabel = Literal["cause", "workaround", "answer_copied"]


class FixSet(Frozen):
    """A set of interventions and what was measured by running it."""

    interventions: tuple[Intervention, ...]
    label: FixSetLabel
    sufficient: bool  # flip_rate ≥ early_stop_threshold
    flips: int
    samples: int
    groups: int
    flip_rate: float
    flip_interval: Interval  # over groups
    suppressed: int  # failure gone, output otherwise wrong or its rightness unknown
    in_sample: bool  # the evidence uses the samples that the search saw
    recovery: float | None  # median of (fixed − failed)/(donor − failed)
    explained_away: float | None  # share of anomalous sites outside the patch that return to the baseline
    necessity: tuple[float, ...]  # per intervention: flip rate lost when it is left out
    side_effects: SideEffects | None
    minimality: Minimality
    bits_replaced: float | None
    certificate: Certificate | None = None  # null where no search established the level
    finer: Finer | None = None  # null where nothing finer repairs as well, or none was looked for
    copy_check: CopyCheck | None = None  # null where nothing flips or is patched, or no run of another answer fits
    shams: Shams | None = None  # null where no set resembles it, or for a set that is not the result's
    reversal: Reversal | None = None  # null without a reference model, or for a set that is not the result's
    shuffled: Shuffled | None = None  # null unless asked for (`evidence: full`) and possible

    def __str__(self) -> str:
        return ", ".join(str(intervention) for intervention in self.interventions)


class Replay(Frozen):
    """The replayed run against the recorded outputs, before any intervention."""

    reproduced: bool
    bit_identical: bool
    max_error: float  # largest |difference| / largest |recorded logit|
    samples: int
    failing: int  # samples that fail on replay


class Execution(Frozen):
    """How sets were run: together with threads and machine, what bit-for-bit equal results take."""

    from_middle: bool  # rows start at the first half of a layer and the first token that they change
    reason: str | None  # why not, where they do not
    rows_from_middle: int  # rows that did not run the whole model
    max_batch_rows: int
    memory_limit: int | None  # bytes that one batch was planned for; null where nothing stated any
    halvings: int  # batches that ran out of memory and were split


class SearchSpent(Frozen):
    strategy: str
    pool: tuple[str, ...]  # sites that were candidates
    forwards: int  # rows run through the model, self-checks included
    combinations: int  # distinct sets that were run
    self_check_max_error: float  # fast against plain hooks, relative to the largest logit
    timed_out: bool
    seed: int
    execution: Execution | None = None
    left_out: int = 0  # sites that were not in the pool, because it was large and others looked more promising
    attribution_agreement: float | None = None  # rank correlation of estimated and measured effects, where estimated


class CausalResult(Frozen):
    """What `cca` found."""

    replay: Replay
    fix_set: FixSet | None
    alternatives: tuple[FixSet, ...]
    workarounds: tuple[FixSet, ...]
    best_effect: FixSet | None  # the best set seen when none is sufficient
    spent: SearchSpent | None
    warnings: tuple[str, ...]
    largest_change: float | None = None  # see `Evidence`
