from __future__ import annotations

import math
from pathlib import Path

import pytest

from espnet_tse_gen.errors import UserError
from espnet_tse_gen.fileio import write_yaml
from espnet_tse_gen.scoring.published import published_tables
from espnet_tse_gen.scoring.results import Bootstrap, breakdown_tables, main_table, order_systems, render_results
from espnet_tse_gen.scoring.table import Row, add_derived, read_scores, replace_rows


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
    assert [(r.system, r.set) for r in found] == [("mixture", "test")] * 2 + [("greedy", "test")] * 4 + [
        ("greedy", "dev")
    ] * 4
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
    with pytest.raises(UserError, match=message):
        read_scores(tmp_path / "s.csv")


def test_results_have_every_system_in_order_and_the_breakdowns() -> None:
    found = [*rows("greedy", 5.0), *rows("mixture", 0.0)]
    add_derived(found)
    systems = order_systems(found, ["mixture"])
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


def test_unequal_items_are_pointed_out_and_unknown_systems_refused() -> None:
    found = [*rows("greedy", 5.0)[:3], *rows("mixture", 0.0)]
    assert any("different items" in note for note in main_table(found, ["greedy", "mixture"], Bootstrap(10)).notes)
    with pytest.raises(UserError, match="did you mean 'greedy'"):
        order_systems(found, ["gredy"])


def test_published_figures_agree_within_interval_and_rounding(tmp_path: Path) -> None:
    def entry(value: str) -> dict[str, object]:
        return {"system": "mixture", "condition": "c", "source": "s", "values": {"SI_SDR": value}}

    path = tmp_path / "published.yaml"
    write_yaml(path, {"near": entry("0.0"), "far": entry("0.5"), "bad": entry("x")})
    found = rows("mixture", 0.04)
    for name, verdict in (("near", "agrees"), ("far", "differs")):
        (table,) = published_tables(found, {"test": name}, path, Bootstrap(50))
        assert table.rows[0][-1].text == verdict
    with pytest.raises(UserError, match="number in quotes"):
        published_tables(found, {"test": "bad"}, path, Bootstrap(50))
    with pytest.raises(UserError, match="did you mean 'near'"):
        published_tables(found, {"test": "neer"}, path, Bootstrap(50))


def test_the_shipped_published_figures_can_be_used() -> None:
    path = Path(__file__).parents[2] / "conf" / "published.yaml"
    (table,) = published_tables(rows("mixture", 0.0), {"test": "two_speakers_clean"}, path, Bootstrap(50))
    assert table.rows[0][-1].text == "agrees"
    for name in ("libri2mix_test_16k_min_both", "libri2mix_dev_16k_min_both", "libri2mix_test_16k_min_clean"):
        assert published_tables(rows("mixture", 0.0), {"test": name}, path, Bootstrap(50))
