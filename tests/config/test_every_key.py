"""Every key does what it says: changing it changes what happens. A new key without a proof here fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from model_forensics import RCAPipeline, logs
from model_forensics.bundle import load_bundle
from model_forensics.cca.executor import CaseOutcome, SetOutcome
from model_forensics.cca.memory import memory_limit, stated_limit
from model_forensics.cca.search import Problem, Search
from model_forensics.cca.shortlist import search_shortlist
from model_forensics.config import KEYS, load_config
from model_forensics.config.keys import nested
from model_forensics.demo import data_directory
from model_forensics.errors import ConfigError, ModelForensicsError
from model_forensics.pipeline.streaming import must_stream
from model_forensics.store import AuditLog

SHORT = {"device": "cpu", "cache.enabled": False, "modules.cf.compression_methods": ["arithmetic"]}

PROOFS: dict[str, Callable[[World], None]] = {}


def proves(*keys: str) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    def register(proof: Callable[[World], None]) -> Callable[[World], None]:
        PROOFS.update(dict.fromkeys(keys, proof))
        return proof

    return register


class World:
    """The shipped incident, analysed under this and that setting."""

    def __init__(self, data: Path, place: Path) -> None:
        self.data = data
        self.place = place

    def pipeline(self, settings: dict[str, Any]) -> RCAPipeline:
        return RCAPipeline(nested({"output_dir": self.place / "results", **SHORT, **settings}))

    def located(self, settings: dict[str, Any], baseline: Any = "benign") -> Any:
        """Forensics alone."""
        given = self.data / "benign" if baseline == "benign" else baseline
        return self.pipeline({"modules.cca.enabled": False, **settings}).analyze_incident(self.data / "incident", given)

    def proven(self, settings: dict[str, Any], baseline: Path | None = None, **donor: Any) -> Any:
        """A search, with the reference model as donor unless another is given."""
        donor = donor or {"donor_model": self.data / "reference"}
        quick = {"modules.cca.refine": False, "modules.cca.max_alternatives": 0}
        return self.pipeline({**quick, **settings}).analyze_incident(self.data / "incident", baseline, **donor)


@pytest.fixture(scope="module")
def shipped():
    with data_directory() as data:
        yield data


@pytest.fixture(scope="module")
def base(shipped, tmp_path_factory):
    """The search under the defaults, which others are compared with."""
    return World(shipped, tmp_path_factory.mktemp("base")).proven({})


@pytest.fixture
def world(shipped, tmp_path, base):
    made = World(shipped, tmp_path)
    made.base = base
    return made


def test_every_key_has_a_proof():
    assert PROOFS.keys() == KEYS.keys()


# --- the file itself, places -------------------------------------------------------------------


@proves("version")
def _(world):
    file = world.place / "c.yaml"
    file.write_text('version: "1.1"\n')
    assert load_config(file, environment={}).file_version == "1.1"
    file.write_text('version: "0.9"\n')
    with pytest.raises(ConfigError, match=r"0\.9"):
        load_config(file, environment={})


@proves("bundle_dir")
def _(world):
    with pytest.raises(ModelForensicsError):
        world.pipeline({}).triage("incident")
    assert len(world.pipeline({"bundle_dir": world.data}).triage("incident")) == 1


@proves("output_dir")
def _(world):
    for name in ("a", "b c"):
        result = world.located({"output_dir": world.place / name}, None)
        assert Path(result.export_path).parent == world.place / name


@proves("baseline_dir")
def _(world):
    assert world.located({}, None).anomaly_score is None
    assert world.located({"baseline_dir": world.data / "benign"}, None).anomaly_score > 0.8


@proves("device")
def _(world):
    assert world.base.environment.device == "cpu"
    with pytest.raises(ModelForensicsError, match="cuda:99"):
        world.proven({"device": "cuda:99"})


@proves("timeout_minutes")
def _(world):
    late = [text for text in world.proven({"timeout_minutes": 1e-9}).warnings if "ran out of time" in text]
    assert late
    assert not set(late) & set(world.base.warnings)


@proves("seed")
def _(world):
    drawn = [
        world.proven({"seed": seed, "modules.cca.search_strategy": "random", "modules.cca.max_stage_sets": 3})
        for seed in range(4)
    ]
    assert len({result.evidence.search.model_dump_json(exclude={"seconds"}) for result in drawn}) > 1


# --- logs --------------------------------------------------------------------------------------


def logged(world, **settings):
    from click.testing import CliRunner

    from model_forensics.cli.main import main

    text = "".join(f"{key}: {value}\n" for key, value in {"log_file": world.place / "x.log", **settings}.items())
    (world.place / "c.yaml").write_text(f'version: "1.1"\n{text}')
    arguments = ["inspect", str(world.data / "none"), "--config", str(world.place / "c.yaml")]
    return CliRunner().invoke(main, arguments)


@proves("log_file")
def _(world):
    logged(world)
    assert "ERROR" in (world.place / "x.log").read_text()
    logged(world, log_file=world.place / "y.log")
    assert "ERROR" in (world.place / "y.log").read_text()


@proves("log_level")
def _(world):
    settings = {"log_level": "INFO"}
    for level, count in (("ERROR", 0), ("INFO", 1)):
        file = world.place / f"{level}.log"
        config = world.pipeline({**settings, "log_level": level}).config
        with logs.configured(level=config.log_level, file=file):
            logs.log_time("stage", None, 1.0, "done")
        assert len(file.read_text().splitlines()) == count


@proves("log_format")
def _(world):
    logged(world, log_format="json")
    assert (world.place / "x.log").read_text().startswith('{"time"')


@proves("log_rotation.size", "log_rotation.keep")
def _(world):
    for _ in range(6):
        logged(world, log_rotation='{size: "200B", keep: 2}')
    assert len(list(world.place.glob("x.log*"))) == 3
    for _ in range(6):
        logged(world, log_file=world.place / "y.log", log_rotation='{size: "1MB", keep: 2}')
    assert len(list(world.place.glob("y.log*"))) == 1


# --- storage and memory ------------------------------------------------------------------------


@proves("streaming.enabled")
def _(world):
    incident = load_bundle(world.data / "incident")
    assert [
        must_stream(incident, world.pipeline(given).config.streaming) for given in ({}, {"streaming.enabled": True})
    ] == [False, True]


@proves("streaming.max_memory")
def _(world):
    limits = []
    for settings in ({}, {"streaming.max_memory": "3MB"}):
        config = world.pipeline(settings).config
        with memory_limit(config.streaming.stated_max_memory):
            limits.append(stated_limit())
    assert limits[1] == 3_000_000 != limits[0]


def kept(world, name: str, **settings: Any) -> int:
    """Bytes in the cache of this name after an analysis."""
    place = world.place / name
    changed = {"cache.enabled": True, "cache.directory": place, **{f"cache.{key}": v for key, v in settings.items()}}
    world.located(changed, None)
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


@proves("cache.enabled", "cache.directory")
def _(world):
    assert kept(world, "a") > 0
    assert kept(world, "b", enabled=False) == 0
    assert kept(world, "ordner ö") > 0


@proves("cache.size")
def _(world):
    assert kept(world, "small", size="1kB") < kept(world, "large", size="1GB") / 2


@proves("audit_log")
def _(world):
    world.located({}, None)
    assert {path.name for path in world.place.iterdir()} == {"results"}
    world.located({"audit_log": world.place / "audit.jsonl"}, None)
    assert AuditLog(world.place / "audit.jsonl").verify().lines


# --- modules.cf --------------------------------------------------------------------------------


@proves("modules.cf.enabled")
def _(world):
    off = world.proven({"modules.cf.enabled": False})
    assert (off.compression_metrics, off.anomaly_score, off.verdict) == ((), None, "cause_found")
    assert any("switched off" in text for text in off.warnings)
    assert world.base.compression_metrics


@proves("modules.cf.anomaly_threshold")
def _(world):
    found = [
        sum(row.is_anomalous for row in world.located({"modules.cf.anomaly_threshold": sigma}).compression_metrics)
        for sigma in (0.5, 2.0, 1000.0)
    ]
    assert found[0] >= found[1] > found[2] == 0


@proves("modules.cf.compression_methods")
def _(world):
    for methods in (["zlib"], ["arithmetic", "gzip"]):
        result = world.located({"modules.cf.compression_methods": methods}, None)
        assert {name for row in result.compression_metrics for name in row.methods} - {"entropy"} == set(methods)


@proves("modules.cf.entropy_window")
def _(world):
    small, large = (
        [row.model_dump() for row in world.located({"modules.cf.entropy_window": window}, None).compression_metrics]
        for window in (64, 1024)
    )
    assert small != large


@proves("modules.cf.baseline_samples")
def _(world):
    groups = [
        world.pipeline({"modules.cf.baseline_samples": count})
        .build_baseline(world.data / "benign", world.place / str(count))
        .groups
        for count in (6, 12)
    ]
    assert groups == [6, 12]


# --- modules.cca -------------------------------------------------------------------------------


@proves("modules.cca.enabled")
def _(world):
    assert world.located({}).evidence.replay is None
    assert world.base.evidence.replay is not None


def searched(result: Any) -> Any:
    return result.evidence.search


@proves("modules.cca.search_strategy")
def _(world):
    assert searched(world.proven({"modules.cca.search_strategy": "random"})) != searched(world.base)


class Truth:
    """A made-up world in which three of eight interventions together repair everything, and each helps a little."""

    CAUSE = frozenset({1, 3, 5})

    def __init__(self) -> None:
        self.executed: set[tuple[int, ...]] = set()

    def run(self, sets):
        self.executed |= set(sets)
        return [self.outcome(members) for members in sets]

    def outcome(self, members):
        fixed = set(members) >= self.CAUSE
        score = -1.0 if fixed else 1.0 - 0.2 * len(self.CAUSE & set(members))
        case = CaseOutcome(score, "fixed" if fixed else "failed", None, None)
        return SetOutcome(members, (case,), (1.0,))

    def searched(self, asked: Asked, **changes: Any):
        """The search of this world as the configuration asked for it."""
        names = [f"s{number}" for number in range(8)]
        problem = Problem(
            sites=names, bits=[1.0] * 8, order=list(range(8)), run=self.run, restores=None,
            sufficient=asked.problem.sufficient, max_size=asked.problem.max_size,
        )  # fmt: skip
        return Search(problem, replace(asked.settings, **changes)).result()


class Asked(NamedTuple):
    """What the pipeline made of the configuration, when it came to the search."""

    problem: Any
    settings: Any


def asked(world, **settings: Any) -> Asked:
    seen = []

    def listening(problem_of, sites, estimated, pool, how):
        seen.append(Asked(problem_of(len(sites)), how))
        return search_shortlist(problem_of, sites, estimated, pool, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model_forensics.cca.experiment.search_shortlist", listening)
        world.proven({f"modules.cca.{key}": value for key, value in settings.items()})
    return seen[0]


@proves("modules.cca.beam_width")
def _(world):
    runs = []
    for width in (1, 6):
        truth = Truth()
        truth.searched(asked(world, search_strategy="beam", beam_width=width), exhausting=False)
        runs.append(len(truth.executed))
    assert runs[0] < runs[1]


@proves("modules.cca.max_fix_set_size")
def _(world):
    found = [Truth().searched(asked(world, max_fix_set_size=size)).flipping for size in (2, 3)]
    assert found[0] == []
    assert found[1][0].outcome.members == (1, 3, 5)


@proves("modules.cca.max_alternatives")
def _(world):
    more = world.proven({"modules.cca.max_alternatives": 5})
    assert (len(more.alternatives), searched(more).combinations) > (
        len(world.base.alternatives),
        searched(world.base).combinations,
    )


@proves("modules.cca.max_stage_sets")
def _(world):
    runs = []
    for count in (1, 2500):
        truth = Truth()
        truth.searched(asked(world, max_stage_sets=count))
        runs.append(len(truth.executed))
    assert runs[0] < runs[1]


@proves("modules.cca.early_stop_threshold")
def _(world):
    half = SetOutcome(
        (0,), (CaseOutcome(-1.0, "fixed", None, None), CaseOutcome(1.0, "failed", None, None)), (1.0, 1.0)
    )
    assert half.flip_rate == 0.5
    assert asked(world, early_stop_threshold=0.3).problem.sufficient(half)
    assert not asked(world, early_stop_threshold=0.9).problem.sufficient(half)


@proves("modules.cca.intervention_types")
def _(world):
    for kind in ("zero", "patch"):
        result = world.proven({"modules.cca.intervention_types": [kind]})
        sets = [result.fix_set, *result.workarounds, *result.alternatives]
        assert {one.kind for fix in sets if fix is not None for one in fix.interventions} == {kind}


@proves("modules.cca.donor")
def _(world):
    patching = {"modules.cca.intervention_types": ["patch"]}
    assert world.proven(patching).fix_set.interventions[0].donor.kind == "reference_model"
    with pytest.raises(ModelForensicsError, match="contrast"):
        world.proven({**patching, "modules.cca.donor": "contrast"})


@proves("modules.cca.donor_sample")
def _(world):
    settings = {"modules.cca.donor": "benign_sample", "modules.cca.donor_sample": "no such sample"}
    with pytest.raises(ModelForensicsError, match="no such sample"):
        world.proven(settings, world.data / "benign", donor_model=None)


@proves("modules.cca.granularity")
def _(world):
    heads = searched(world.proven({"modules.cca.granularity": "head", "modules.cca.intervention_types": ["patch"]}))
    whole = searched(world.proven({"modules.cca.intervention_types": ["patch"]}))
    assert set(heads.pool) - set(whole.pool)


@proves("modules.cca.refine")
def _(world):
    looked_for = []
    with pytest.MonkeyPatch.context() as patch:  # nothing finer repairs the shipped incident
        patch.setattr("model_forensics.cca.fix_sets.refine", lambda *_arguments, **_more: looked_for.append("finer"))
        for refine in (False, True):
            looked_for.append(refine)
            world.proven({"modules.cca.refine": refine})
    assert looked_for == [False, True, "finer"]


@proves("modules.cca.evidence")
def _(world):
    full = world.proven({"modules.cca.evidence": "full"})
    assert full.fix_set.shuffled is not None or any("shuffled donors" in text for text in full.warnings)
    assert world.base.fix_set.shuffled is None
    assert not any("shuffled donors" in text for text in world.base.warnings)


@proves("modules.cca.max_pool_sites")
def _(world):
    assert searched(world.proven({"modules.cca.max_pool_sites": 1})) != searched(world.base)


@proves("modules.cca.max_batch_rows")
def _(world):
    one = world.proven({"modules.cca.max_batch_rows": 1})
    assert one.fix_set.interventions == world.base.fix_set.interventions
    assert searched(one) != searched(world.base)


# --- modules of later versions -----------------------------------------------------------------


@proves("modules.isc.enabled", "modules.dbc.enabled", "modules.provenance.enabled")
def _(world):
    for name in ("isc", "dbc", "provenance"):
        assert world.pipeline({f"modules.{name}.enabled": False})
        with pytest.raises(ConfigError, match=rf"modules\.{name}\.enabled.*not in this version"):
            world.pipeline({f"modules.{name}.enabled": True})


@pytest.mark.parametrize("key", sorted(PROOFS))
def test_changing_it_changes_what_happens(world, key):
    PROOFS[key](world)
