import math
from pathlib import Path

import pytest
from refused import refused

from espnet_tse_gen.report.published import published_tables
from espnet_tse_gen.scoring.results import (
    Bootstrap,
    breakdown_tables,
    convention,
    further_tables,
    main_table,
    ordered,
    render_results,
)
from espnet_tse_gen.scoring.table import Row, add_derived, read_scores, replace_rows
from espnet_tse_gen.utils.files import read_yaml, write_yaml


def rows(system: str, value: float, set_name: str = "test") -> list[Row]:
    result = []
    for key, pair in (("a", "different"), ("b", "male+male")):
        for speaker in (1, 2):
            metrics = {"SI_SDR": value, "SI_SDR_aligned": value, "SI_SDRi": value, "ESTOI": 50.0 + speaker}
            result.append(Row(system, set_name, key, speaker, "s", pair, 2.0 * speaker - 3.0, metrics))
    return result


def test_scoring_again_replaces_only_that_system_and_set(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    replace_rows(path, rows("mixture", 0.0))
    replace_rows(path, rows("greedy", 5.0))
    replace_rows(path, rows("greedy", 6.0, "dev"))
    first = path.read_bytes()
    replace_rows(path, rows("greedy", 5.0))
    assert path.read_bytes() == first
    replace_rows(path, rows("mixture", 1.0)[:2])
    found = read_scores(path)
    assert [r.system for r in found] == ["mixture"] * 2 + ["greedy"] * 8
    assert [r.set for r in found] == ["test"] * 6 + ["dev"] * 4
    assert [r.metrics["SI_SDR"] for r in found] == [1.0] * 2 + [5.0] * 4 + [6.0] * 4


def test_rows_survive_the_file(tmp_path: Path) -> None:
    row = Row('a, "b"', "s", "k", 1, input_sir=math.nan, metrics={"SI_SDR": -1.25}, note="cpu, batch 1")
    replace_rows(tmp_path / "s.csv", [row])
    (found,) = read_scores(tmp_path / "s.csv")
    assert (found.system, found.metrics, found.note) == (row.system, row.metrics, row.note)
    assert math.isnan(found.input_sir)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "column 'system'"),
        ("system,set,key,speaker_index,target,gender_pair,input_sir\na,b,c,x,,,\n", "x"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    refused(message, read_scores, tmp_path / "s.csv")


def test_results_have_every_system_in_order_and_the_breakdowns() -> None:
    found = [*rows("greedy", 5.0), *rows("mixture", 0.0)]
    add_derived(found)
    systems = ordered("system", found, ["mixture"])
    assert systems == ["mixture", "greedy"]
    table = main_table(found, systems, Bootstrap(100))
    assert [row[0].text for row in table.rows] == systems
    assert "SI-SDR aligned (dB) ↑" not in table.headings
    failed = table.headings.index("SI-SDRi < 1 dB (%) ↓")
    assert [row[failed].text for row in table.rows] == ["100.0", "0.0"]
    gender, sir = breakdown_tables(found, systems, Bootstrap(100))
    assert [row[0].text for row in gender.rows] == ["different", "different", "male+male", "male+male"]
    assert [row[0].text for row in sir.rows] == ["-5 to 0 dB", "-5 to 0 dB", "0 to 5 dB", "0 to 5 dB"]
    options = {"sets": ["test"], "systems": systems, "environment": {"date": "today"}, "bootstrap": Bootstrap(100)}
    text = render_results("m", found, **options)  # type: ignore[arg-type]
    assert text == render_results("m", found, **options)  # type: ignore[arg-type]
    for part in ("- date: today", "## Set test: 2 mixtures", "| mixture | 4 | 0.00 |", "By input SIR"):
        assert part in text


def test_a_speaker_of_unknown_sex_leaves_the_breakdown_of_the_others() -> None:
    found = rows("greedy", 5.0)
    for row in found:
        row.gender_pair = row.gender_pair if row.key == "a" else ""
    gender, _ = breakdown_tables(found, ["greedy"], Bootstrap(50))
    assert [(row[0].text, row[2].text) for row in gender.rows] == [("different", "2"), ("unknown", "2")]
    for row in found:
        row.gender_pair = ""
    assert [table.title for table in breakdown_tables(found, ["greedy"], Bootstrap(50))] == ["By input SIR"]


@pytest.mark.parametrize("missing", ["SI_SDR", "SI_SDR_aligned"])
def test_breakdowns_show_the_one_kind_of_si_sdr_that_there_is(missing: str) -> None:
    found = rows("greedy", 5.0)
    for row in found:
        del row.metrics[missing]
    gender, _ = breakdown_tables(found, ["greedy"], Bootstrap(50))
    assert sum("SI-SDR " in heading for heading in gender.headings) == 1
    assert gender.rows[0][3].text == "5.00"


def test_unequal_items_are_pointed_out_and_unknown_systems_refused() -> None:
    found = [*rows("greedy", 5.0)[:3], *rows("mixture", 0.0)]
    assert any("different items" in note for note in main_table(found, ["greedy", "mixture"], Bootstrap(10)).notes)
    refused("did you mean 'greedy'", ordered, "system", found, ["gredy"])


def test_published_figures_agree_within_interval_and_rounding(tmp_path: Path) -> None:
    def entry(value: str, **more: object) -> dict[str, object]:
        facts = {"system": "mixture", "condition": "c", "targets": "both", "source": "s", "grade": "P"}
        return {**facts, "values": {"SI_SDR": value}, **more}

    path = tmp_path / "published.yaml"
    other = {"name": "Theirs", "source": "a paper", "grade": "S", "values": {"SI_SDR": "18.8"}}
    write_yaml(
        path,
        {
            "near": entry("0.0"),
            "far": entry("0.5"),
            "bad": entry("x"),
            "first": entry("0.0", targets="first"),
            "beside": entry("0.0", systems=[other]),
            "grade": entry("0.0", grade="X"),
            "lacking": entry("0.0", systems=[{"name": "Theirs", "values": {}}]),
        },
    )
    found = rows("mixture", 0.04)
    for name, verdict in (("near", "agrees"), ("far", "differs")):
        (table,) = published_tables(found, {"test": name}, path, Bootstrap(50))
        assert table.rows[0][-1].text == verdict
        assert any("Source (read in the authors'" in note for note in table.notes)
        assert not any("do not compare" in note for note in table.notes)
    (table,) = published_tables(found, {"test": "first"}, path, Bootstrap(50))
    assert any("speaker 1 only as targets, these rows speakers 1, 2: they do not compare" in n for n in table.notes)
    _, beside = published_tables(found, {"test": "beside"}, path, Bootstrap(50))
    assert [cell.text for cell in beside.rows[0]] == ["Theirs", "S", "18.8"]
    for name, message in (("bad", "quoted number"), ("grade", "unknown grade"), ("lacking", "lacks 'source'")):
        refused(message, published_tables, found, {"test": name}, path, Bootstrap(50))
    refused("did you mean 'near'", published_tables, found, {"test": "neer"}, path, Bootstrap(50))


def test_the_shipped_published_figures_can_be_used() -> None:
    path = Path(__file__).parents[2] / "conf" / "published.yaml"
    (table,) = published_tables(rows("mixture", 0.0), {"test": "two_speakers_clean"}, path, Bootstrap(50))
    assert table.rows[0][-1].text == "agrees"
    names = list(read_yaml(path))
    assert len(names) >= 5
    for name in names:
        assert published_tables(rows("mixture", 0.0), {"test": name}, path, Bootstrap(50))


def test_an_error_rate_is_all_errors_over_all_words() -> None:
    found = rows("greedy", 5.0)[:2]
    found[0].metrics.update({"WER": 0.5, "WER_words": 2.0})
    found[1].metrics.update({"WER": 0.0, "WER_words": 8.0})
    table = main_table(found, ["greedy"], Bootstrap(50))
    assert table.rows[0][table.headings.index("WER (%) ↓")].text == "10.0"


def test_what_the_main_table_leaves_out_has_tables_of_its_own() -> None:
    found = [*rows("mixture", 0.0), *rows("greedy", 5.0)]
    for row in found:
        row.metrics["SIR"] = 1.0
        if row.system == "greedy":
            row.metrics |= {f"token_accuracy_codebook{codebook}": codebook / 20 for codebook in (1, 2, 10)}
    further, codebooks = further_tables(found, ["mixture", "greedy"], Bootstrap(50))
    assert "SIR (dB) ↑" in further.headings and len(further.rows) == 2
    assert codebooks.headings[2:] == ["codebook 1 (%) ↑", "codebook 2 (%) ↑", "codebook 10 (%) ↑"]
    assert [cell.text for cell in codebooks.rows[0]] == ["greedy", "4", "5.0", "10.0", "50.0"]
    chosen = further_tables(found, ["mixture", "greedy"], Bootstrap(50), measures=["SIR"])
    assert "SI-SDRi (dB) ↑" in chosen[0].headings


def test_items_without_scores_and_the_networks_are_named(tmp_path: Path) -> None:
    found = [*rows("mixture", 0.0), *rows("greedy", 5.0)]
    for row in found:
        row.tools = "wavlm a/b at revision 0123"
    silent = found[-1]
    silent.fault, silent.metrics = "silent output", {}
    replace_rows(tmp_path / "s.csv", found)
    found = read_scores(tmp_path / "s.csv")
    assert (found[-1].fault, found[-1].metrics, found[-1].tools) == ("silent output", {}, silent.tools)
    add_derived(found)
    assert found[-1].metrics == {"failed": 1.0, "silent": 1.0}
    table = main_table(found, ["mixture", "greedy"], Bootstrap(50))
    assert table.rows[1][table.headings.index("silent (%) ↓")].text == "25.0"
    assert table.rows[1][table.headings.index("SI-SDR (dB) ↑")].detail == "n=3"
    assert "greedy: 1 of 4 items have no scores (1 silent output)." in table.notes
    assert "Scored with: wavlm a/b at revision 0123." in table.notes
    found[0].tools = found[1].tools = found[2].tools = found[3].tools = ""
    notes = main_table(found, ["mixture", "greedy"], Bootstrap(50)).notes
    assert "mixture scored with: no such network." in notes


@pytest.mark.parametrize("speakers, part", [([1], "3,000 targets"), ([1, 2], "6,000 targets"), ([2], "speakers 2 of")])
def test_the_convention_of_targets_is_named(speakers: list[int], part: str) -> None:
    found = [row for row in rows("mixture", 0.0) if row.speaker_index in speakers]
    assert part in convention(found)
