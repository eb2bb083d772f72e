"""What is written from the zoo's scores and reports: the tables of its page, the pictures of its gallery."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.zoo import gallery, table
from bench.zoo.floor import complaints, subset
from bench.zoo.gallery import picture
from bench.zoo.judged import Judged
from bench.zoo.plan import entries
from bench.zoo.score import filled, score, summarise
from model_forensics import RCAPipeline
from model_forensics.demo import data_directory
from model_forensics.report import read_json_result, render_html

ROOT = Path(__file__).parents[2]
MEDIANS = dict.fromkeys(("changed", "seconds", "cpu_seconds", "forwards"))


def judged(number: int, *, named: bool, split: str = "test") -> Judged:
    return Judged(
        name=f"kind-{number}", kind="stale_shard", family="weights", network="gpt2", split=split, reference=True,
        verdict="cause_found", refused=None, reported=("L0.attn",), fix_exists=True, fix_found=True, named=named,
        named_or_restores=named, layer_named=named, onset=(True, True), onset_top=True, strongest=(False, True),
        strongest_top=True, changed=0.0, alarm=None, commit="0123456789abcdef",
        confidence=0.9 if named else 0.2, evidence=2.0, change=1.0,
        seconds=4.0, cpu_seconds=3.0,
        forwards=100, rivals={"zlib": False, "weights": True},
    )  # fmt: skip


@pytest.fixture
def document() -> dict:
    incidents = [judged(number, named=number < 18) for number in range(20)]
    summary = asdict(summarise(incidents))
    summaries = {"all": summary, "test": summary, "kind: stale_shard": summary}
    told = {"summaries": summaries, "incidents": [asdict(one) for one in incidents]}
    scored = {
        "date": "2026-11-27", "commits": ["0123456789abcdef"], "not_run": 3,
        "machine": {"cpu": "Some CPU", "cores": 2, "libraries": {"torch": "2.13.0"}},
    }  # fmt: skip
    return json.loads(json.dumps({**scored, **told}))


def test_bars_are_told_with_their_intervals_and_marks(document):
    bars = table.blocks(document)["zoo bars"]
    assert "| cause named, with a reference model | 90 % (18 of 20; 68 to 99) ✓ | ≥ 90 % | ≥ 98 % |" in bars
    assert "| cause named, without | – | ≥ 65 % | ≥ 85 % |" in bars
    assert (
        "| `confidence`: AUROC, right against wrong | 1.000 (2 of 20 wrong; 1.000 to 1.000) ✓ | ≥ 0.80 | ≥ 0.90 |"
        in bars
    )
    assert "| time an incident, median | 4.0 s (4.0 to 4.0) ✓ | ≤ 15 s | ≤ 5 s |" in bars
    assert bars.endswith(
        "2026-11-27, commit 0123456789ab; Some CPU, 2 cores; torch 2.13.0. 3 of the zoo's incidents were not run."
    )
    document["summaries"]["test"].update(seconds=20.0, intervals={**MEDIANS, "seconds": [12.0, 31.5]})
    assert "| 20.0 s (12.0 to 31.5) ✗ |" in table.blocks(document)["zoo bars"]


def test_a_score_without_all_answers_fails(tmp_path, monkeypatch):
    first, second = islice(entries(), 2)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / f"{first.name}.run.json").write_text("{}")
    for refused, failed in ((None, 0), ("not so", 0), ("crashed: KeyError('oh')", 1)):
        found = replace(judged(0, named=True), refused=refused)
        monkeypatch.setattr("bench.zoo.score.judge", lambda root, entry, found=found: found)
        assert score(tmp_path, [first]) == failed
        assert score(tmp_path, [first, second]) == 1, "one was not run"


def test_noise_and_damage_are_told_apart(document):
    assert table.blocks(document)["zoo noise"] == "Not measured."
    document["summaries"]["all"].update(noise=0.07, damage=0.5)
    assert "at most 7.0% of" in table.blocks(document)["zoo noise"]
    assert "at least 50.0% where" in table.blocks(document)["zoo noise"]


def test_a_page_gets_the_tables_that_it_has_room_for(document):
    page = "a\n<!-- bench: zoo bars -->\nold\n<!-- bench: end -->\nb\n"
    written = filled(page, document)
    assert written.startswith("a\n<!-- bench: zoo bars -->\n| measure |")
    assert written.endswith("not run.\n<!-- bench: end -->\nb\n")
    assert filled("nothing", document) == "nothing"


def test_a_part_of_the_zoo_fails_where_it_is_below_its_floor_with_its_whole_interval():
    good = [judged(number, named=True) for number in range(20)]
    healthy = [replace(one, onset=None, named=None, fix_found=None, alarm=False) for one in good]
    assert not list(complaints([*good, *healthy]))
    some_wrong = [judged(number, named=number < 15) for number in range(20)]
    assert not list(complaints([*some_wrong, *healthy])), "15 of 20 may be chance: up to 0.91"
    more_wrong = [judged(number, named=number < 14) for number in range(20)]
    assert list(complaints([*more_wrong, *healthy])) == ["cause named: 14 of 20 (0.46 to 0.88), below 0.9"]
    alarmed = [replace(one, alarm=number < 5) for number, one in enumerate(healthy)]
    assert list(complaints([*good, *alarmed])) == ["false alarms: 5 of 20 (0.09 to 0.49), above 0.05"]
    assert list(complaints(good)) == ["false alarms: nothing was measured"]
    assert {one.split for one in subset()} == {"development"}
    assert len(subset()) >= 20


def test_kinds_and_rivals_are_told(document):
    told = table.blocks(document)
    assert "| stale_shard | weights | 20 | 20 of 20 (83–100) | 18 of 20 (68–99) |" in told["zoo kinds"]
    assert "| – | 0.83, 18 of 20 | 0.0% | 4.0 s | 100 |" in told["zoo kinds"]
    assert "| change of weights | 100 % (20 of 20; 83 to 100) |" in told["zoo rivals"]
    assert "| every site patched alone | – |" in told["zoo rivals"]


def test_the_page_has_room_for_every_table_and_shows_the_kind_as_it_is(document):
    page = (ROOT / "docs" / "zoo.md").read_text()
    for name in table.blocks(document):
        assert f"<!-- bench: {name} -->" in page
    assert f"```python\n{(ROOT / 'bench/zoo/kinds/stale_shard.py').read_text()}```" in page


def test_a_report_s_heat_map_is_a_picture_of_its_own(tmp_path):
    settings = {"output_dir": str(tmp_path), "cache": {"enabled": False}, "modules": {"cca": {"enabled": False}}}
    with data_directory() as data:
        result = RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    drawn = picture(render_html(result))
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert any("L2.mlp" in text for text in texts)
    assert "--paper" in drawn
    assert "prefers-color-scheme: dark" in drawn
    bare = result.model_copy(
        update={
            "compression_metrics": tuple(
                row.model_copy(update={"token_profile": None}) for row in result.compression_metrics
            )
        }
    )
    with pytest.raises(ValueError, match="no heat map"):
        picture(render_html(bare))


def test_the_gallery_says_and_shows_what_its_results_are():
    page = ROOT / gallery.PAGE
    names = gallery.incidents(page.read_text())
    assert len(names) == 6
    assert page.read_text() == gallery.filled(page), "python -m bench.zoo gallery"
    for name in names:
        result = read_json_result(gallery.beside(page) / f"{name}.json")
        assert (gallery.beside(page) / f"{name}.svg").read_text() == picture(render_html(result))
        said = (gallery.beside(page) / f"{name}.json").read_text()
        assert not re.search(r'"/[^"/]+/', said), "a path of the machine that it was made on"
