import math
from pathlib import Path

import pytest
from refused import refused

from espnet_tse_gen.bin import make_results
from espnet_tse_gen.report.published import published_tables
from espnet_tse_gen.scoring.results import Bootstrap, Table, convention, ordered, set_tables
from espnet_tse_gen.scoring.table import Row, add_derived, read_scores, replace_rows
from espnet_tse_gen.utils.files import read_yaml, write_yaml

FEW = Bootstrap(50)


def rows(system: str, value: float, set_name: str = "test") -> list[Row]:
    result = []
    for key, pair in (("a", "different"), ("b", "male+male")):
        for speaker in (1, 2):
            metrics = {"SI_SDR": value, "SI_SDR_aligned": value, "SI_SDRi": value, "ESTOI": 50.0 + speaker}
            result.append(Row(system, set_name, key, speaker, "s", pair, 2.0 * speaker - 3.0, metrics))
    return result


def tables_of(found: list[Row], *systems: str, **options: list[str]) -> dict[str, Table]:
    return {table.title: table for table in set_tables(found, systems, FEW, **options)[0]}


def test_scoring_again_replaces_only_that_system_and_set(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    replace_rows(path, rows("mixture", 0.0))
    replace_rows(path, rows("greedy", 5.0))
    replace_rows(path, rows("greedy", 6.0, "dev"))
    first = path.read_bytes()
    replace_rows(path, rows("greedy", 5.0))
    assert path.read_bytes() == first
    replace_rows(path, rows("mixture", 1.0)[:2])
    found = [(row.system, row.set, row.metrics["SI_SDR"]) for row in read_scores(path)]
    assert found == [("mixture", "test", 1.0)] * 2 + [("greedy", "test", 5.0)] * 4 + [("greedy", "dev", 6.0)] * 4


def test_rows_survive_the_file(tmp_path: Path) -> None:
    row = Row('a, "b"', "s", "k", 1, input_sir=math.nan, metrics={"SI_SDR": -1.25}, note="cpu, batch 1", tools="a b")
    replace_rows(tmp_path / "s.csv", [row])
    (found,) = read_scores(tmp_path / "s.csv")
    assert math.isnan(found.input_sir) and repr(found) == repr(row)


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


def test_results_have_every_system_in_order_and_the_breakdowns(tmp_path: Path) -> None:
    found = [*rows("greedy", 5.0), *rows("mixture", 0.0)]
    replace_rows(tmp_path / "scores.csv", found)
    add_derived(found)
    systems = ordered("system", found, ["mixture"])
    assert systems == ["mixture", "greedy"]
    table, gender, sir = tables_of(found, *systems).values()
    assert [row[0].text for row in table.rows] == systems
    assert "SI-SDR aligned (dB) ↑" not in table.headings
    failed = table.headings.index("SI-SDRi < 1 dB (%) ↓")
    assert [row[failed].text for row in table.rows] == ["100.0", "0.0"]
    assert [row[0].text for row in gender.rows] == ["different", "different", "male+male", "male+male"]
    assert [row[0].text for row in sir.rows] == ["-5 to 0 dB", "-5 to 0 dB", "0 to 5 dB", "0 to 5 dB"]
    make_results.main(["--exp_dir", str(tmp_path), "--systems", "mixture", "--resamples", "50"])
    text = (tmp_path / "RESULTS.md").read_text()
    for part in ("- date: ", "## Set test: 2 mixtures", "| mixture | 4 | 0.00 |", "By input SIR", "50 resamples"):
        assert part in text


def test_a_speaker_of_unknown_sex_leaves_the_breakdown_of_the_others() -> None:
    found = rows("greedy", 5.0)
    for row in found:
        row.gender_pair = row.gender_pair if row.key == "a" else ""
    gender = tables_of(found, "greedy")["By gender pair"]
    assert [(row[0].text, row[2].text) for row in gender.rows] == [("different", "2"), ("unknown", "2")]
    for row in found:
        row.gender_pair = ""
    assert tables_of(found, "greedy").keys() == {"All items", "By input SIR"}


@pytest.mark.parametrize("missing", ["SI_SDR", "SI_SDR_aligned"])
def test_breakdowns_show_the_one_kind_of_si_sdr_that_there_is(missing: str) -> None:
    found = rows("greedy", 5.0)
    for row in found:
        del row.metrics[missing]
    gender = tables_of(found, "greedy")["By gender pair"]
    assert sum("SI-SDR " in heading for heading in gender.headings) == 1 and gender.rows[0][3].text == "5.00"


def test_unequal_items_are_pointed_out_and_unknown_systems_refused() -> None:
    found = [*rows("greedy", 5.0)[:3], *rows("mixture", 0.0)]
    assert "different items" in tables_of(found, "greedy", "mixture")["All items"].notes[-1]
    refused("did you mean 'greedy'", ordered, "system", found, ["gredy"])


def test_published_figures_agree_within_interval_and_rounding(tmp_path: Path) -> None:
    def compared(value: str, **more: object) -> list[Table]:
        facts = {"system": "mixture", "condition": "c", "targets": "both", "source": "s", "grade": "P"}
        write_yaml(tmp_path / "published.yaml", {"entry": {**facts, "values": {"SI_SDR": value}, **more}})
        return published_tables(rows("mixture", 0.04), {"test": "entry"}, tmp_path / "published.yaml", FEW)

    for value, verdict in (("0.0", "agrees"), ("0.5", "differs")):
        (table,) = compared(value)
        assert table.rows[0][-1].text == verdict
        assert table.notes == ["Source (read in the authors' or the official repository): s. Compared on 4 items."]
    (table,) = compared("0.0", targets="first")
    assert "speaker 1 only as targets, these rows speakers 1, 2: they do not compare" in table.notes[0]
    other = {"name": "Theirs", "source": "a paper", "grade": "S", "values": {"SI_SDR": "18.8"}}
    assert [cell.text for cell in compared("0.0", systems=[other])[1].rows[0]] == ["Theirs", "S", "18.8"]
    refused("quoted number", compared, "x")
    refused("unknown grade", compared, "0.0", grade="X")
    refused("lacks 'source'", compared, "0.0", systems=[{"name": "Theirs", "values": {}}])


def test_the_shipped_published_figures_can_be_used(repository: Path) -> None:
    path = repository / "conf/published.yaml"
    tables = {name: published_tables(rows("mixture", 0.0), {"test": name}, path, FEW) for name in read_yaml(path)}
    assert len(tables) >= 5 and all(tables.values())
    assert tables["two_speakers_clean"][0].rows[0][-1].text == "agrees"
    refused("did you mean", published_tables, rows("mixture", 0.0), {"test": "two_speakers_clear"}, path, FEW)


def test_an_error_rate_is_all_errors_over_all_words() -> None:
    found = rows("greedy", 5.0)[:2]
    found[0].metrics.update({"WER": 0.5, "WER_words": 2.0})
    found[1].metrics.update({"WER": 0.0, "WER_words": 8.0})
    table = tables_of(found, "greedy")["All items"]
    assert table.rows[0][table.headings.index("WER (%) ↓")].text == "10.0"


def test_what_the_main_table_leaves_out_has_tables_of_its_own() -> None:
    found = [*rows("mixture", 0.0), *rows("greedy", 5.0)]
    for row in found:
        row.metrics["SIR"] = 1.0
        if row.system == "greedy":
            row.metrics |= {f"token_accuracy_codebook{codebook}": codebook / 20 for codebook in (1, 2, 10)}
    _, further, codebooks, *_ = tables_of(found, "mixture", "greedy").values()
    assert "SIR (dB) ↑" in further.headings and len(further.rows) == 2
    assert codebooks.headings[2:] == ["codebook 1 (%) ↑", "codebook 2 (%) ↑", "codebook 10 (%) ↑"]
    assert [cell.text for cell in codebooks.rows[0]] == ["greedy", "4", "5.0", "10.0", "50.0"]
    main, further, *_ = tables_of(found, "mixture", "greedy", measures=["SIR"]).values()
    assert main.headings == ["system", "items", "SIR (dB) ↑"] and "SI-SDRi (dB) ↑" in further.headings


def test_items_without_scores_and_the_networks_are_named(tmp_path: Path) -> None:
    found = [*rows("mixture", 0.0), *rows("greedy", 5.0)]
    for row in found:
        row.tools = "wavlm a/b at revision 0123"
    found[-1].fault, found[-1].metrics = "silent output", {}
    replace_rows(tmp_path / "s.csv", found)
    again = read_scores(tmp_path / "s.csv")
    assert repr(again) == repr(found)
    add_derived(again)
    assert again[-1].metrics == {"failed": 1.0, "silent": 1.0}
    table = tables_of(again, "mixture", "greedy")["All items"]
    assert table.rows[1][table.headings.index("silent (%) ↓")].text == "25.0"
    assert table.rows[1][table.headings.index("SI-SDR (dB) ↑")].detail == "n=3"
    assert table.notes == [
        "greedy: 1 of 4 items have no scores (1 silent output).", "Scored with: wavlm a/b at revision 0123."
    ]  # fmt: skip
    for row in again[:4]:
        row.tools = ""
    assert "mixture scored with: no such network." in tables_of(again, "mixture", "greedy")["All items"].notes


@pytest.mark.parametrize("speakers, part", [([1], "3,000 targets"), ([1, 2], "6,000 targets"), ([2], "speakers 2 of")])
def test_the_convention_of_targets_is_named(speakers: list[int], part: str) -> None:
    assert part in convention([row for row in rows("mixture", 0.0) if row.speaker_index in speakers])
