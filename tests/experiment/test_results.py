"""Tidy rows and their summary: against hand computation, the standard library and scipy; claims worded by N."""

import csv
import json
import math
import random
import statistics
from pathlib import Path

import pytest
from scipy import stats

from bida.errors import ScanError, SettingsError
from bida.experiment.design import CLEAN, ONE, Condition
from bida.experiment.results import (
    COLUMNS,
    OLD_COLUMNS,
    Cell,
    conditions_of,
    methods_of,
    read_results,
    shown,
    signed,
    tabulate,
    write_results,
)
from bida.experiment.summary import summarise, worded


def row(subject, method, value, metric="psnr", region="brain", factor=5.0, group="", unit="dB", snr=CLEAN, scans=ONE):
    values = (subject, group, factor, snr, scans, method, metric, region, value, unit)
    return dict(zip(COLUMNS, values))


def several(method, values, **more):
    return [row(f"sub-{number:02d}", method, value, **more) for number, value in enumerate(values, 1)]


def only(entries, **wanted):
    (found,) = [entry for entry in entries if all(entry[key] == value for key, value in wanted.items())]
    return found


ROOT = Path(__file__).resolve().parents[2]
THREE = several("bida", [27.0, 28.0, 30.0]) + several("cubic", [26.0, 26.5, 29.5])


def test_rows_come_back_as_they_were(tmp_path):
    rows = [
        row("sub-01", "bida", 0.1 + 0.2, group='a "b", c\nd', factor=2.5),
        row("sub-02", "cubic", -math.inf, group="\u00e9", snr=20.0),
        row("sub-03", "cubic", 1e-300),
    ]
    nothing = row("sub-04", "cubic", math.nan)
    write_results(tmp_path / "results.csv", [*rows, nothing])
    *back, last = read_results(tmp_path / "results.csv")
    assert back == rows
    assert math.isnan(last.pop("value")) and last == {key: nothing[key] for key in COLUMNS if key != "value"}
    with open(tmp_path / "results.csv", newline="", encoding="utf-8") as file:
        plain = list(csv.reader(file))
    assert tuple(plain[0]) == COLUMNS
    assert plain[1][2:4] == ["2.5", "clean"] and plain[2][3] == "20"
    assert plain[4][-2] == "", "any reader takes an empty value for a missing one"


def test_a_table_of_0_1_is_read_as_clean_and_under_present_names(tmp_path):
    old = ["sub-01,WT,2.5,bida-1,psnr,whole,1.5,dB", "sub-01,WT,2.5,bida,psnr,whole,2.5,dB"]
    old += ["sub-01,WT,2.5,cubic,psnr,whole,0.5,dB", "sub-01,WT,2.5,bida-bare,psnr,whole,0.7,dB"]
    (tmp_path / "old.csv").write_text("\n".join([",".join(OLD_COLUMNS), *old]) + "\n", encoding="utf-8")
    rows = read_results(tmp_path / "old.csv")
    assert {r["snr"] for r in rows} == {CLEAN} and {tuple(r) for r in rows} == {COLUMNS}
    assert {r["method"]: r["value"] for r in rows} == {
        "bida-draw": 1.5,
        "bida-draws": 2.5,
        "cubic": 0.5,
        "bida-draws-bare": 0.7,
    }
    write_results(tmp_path / "new.csv", rows)
    assert read_results(tmp_path / "new.csv") == rows
    assert summarise(rows)["reference"] == "bida-draws", "there is no row of the mean in one step"


@pytest.mark.parametrize("name", ["results.csv", "volumes.csv"])
def test_the_tables_in_the_documentation_are_read(name):
    rows = read_results(ROOT / "docs" / "evaluation" / name)
    summary = summarise(rows)
    assert summary["n"] == 3 and len(rows) > 700
    assert summary["reference"] in ("bida", "bida-draws") and summary["reference"] in summary["methods"]
    assert "bida-1" not in summary["methods"]


def test_cells_of_another_noise_are_kept_apart():
    noisy = several("bida", [20.0, 21.0, 22.0], snr=10.0) + several("cubic", [21.0, 22.0, 23.0], snr=10.0)
    table = tabulate([*noisy, *THREE])
    assert list(table) == [
        Cell(5.0, "psnr", "brain", "cubic"),
        Cell(5.0, "psnr", "brain", "bida"),
        Cell(5.0, "psnr", "brain", "cubic", 10.0),
        Cell(5.0, "psnr", "brain", "bida", 10.0),
    ], "without noise first"
    summary = summarise([*noisy, *THREE])
    assert [(c["method"], c["snr"], c["mean"]) for c in summary["cells"] if c["method"] == "bida"] == [
        ("bida", None, pytest.approx(85 / 3)),
        ("bida", 10.0, 21.0),
    ]
    assert [(e["snr"], e["n"], e["above"], e["below"], e["family_size"]) for e in summary["comparisons"]] == [
        (None, 3, 3, 0, 2),
        (10.0, 3, 0, 3, 2),
    ], "one family for Holm, pairs of one noise"
    assert all(e["p"] == 0.25 and e["p_holm"] == 0.5 for e in summary["comparisons"])
    assert summary["conditions"] == [{"factor": 5.0, "snr": snr, "scans": "one"} for snr in (None, 10.0)]
    json.dumps(summary, allow_nan=False)


def test_conditions_stand_from_fine_to_coarse_and_from_clean_to_noisy():
    rows = [row("a", "bida", 1.0, factor=f, snr=s) for f in (5.0, 2.5) for s in (10.0, CLEAN, 20.0)]
    found = conditions_of(rows)
    assert found == [Condition(f, s) for f in (2.5, 5.0) for s in (CLEAN, 20.0, 10.0)]
    assert [str(one) for one in found[:3]] == ["2.5\u00d7", "2.5\u00d7, SNR 20", "2.5\u00d7, SNR 10"]


def test_volumes_of_structures_are_paired_within_a_noise_level():
    rows = structure("a", "bida", 11.0, 10.0) + structure("a", "hr", 10.0, 0.0)
    rows += [one | {"snr": 10.0} for one in structure("a", "bida", 8.0, -20.0) + structure("a", "hr", 10.0, 0.0)]
    found = summarise(rows)["structures"]
    for snr, bias in ((None, 10.0), (10.0, -20.0)):
        for against in ("labels", "hr"):
            entry = only(found, against=against, method="bida", structure="cortex", snr=snr)
            assert (entry["n"], entry["bias_percent"]) == (1, pytest.approx(bias))


def test_bad_rows_leave_no_file(tmp_path):
    lacking = {key: value for key, value in THREE[0].items() if key != "unit"}
    with pytest.raises(SettingsError, match=r"row 2 must have the columns .* see unit"):
        write_results(tmp_path / "results.csv", [THREE[0], lacking])
    with pytest.raises(SettingsError, match="see more"):
        write_results(tmp_path / "results.csv", [THREE[0] | {"more": 1}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "columns must be"),
        ("subject,value\na,1\n", "columns must be"),
        (",".join(COLUMNS) + "\na,,5,clean,one,bida,psnr,brain,high,dB\n", "line 2 has .*'high'"),
        (",".join(COLUMNS) + "\na,,5,loud,one,bida,psnr,brain,1,dB\n", "line 2 has .*'loud'"),
        (",".join(COLUMNS) + "\na,,5,-1,one,bida,psnr,brain,1,dB\n", "line 2 has .*above 0 or clean, got -1"),
        (",".join(COLUMNS) + "\na,,5,clean,one,bida\n", "line 2"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "results.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ScanError, match=message):
        read_results(tmp_path / "results.csv")
    with pytest.raises(ScanError, match="must be readable"):
        read_results(tmp_path / "missing.csv")


def test_table_leaves_out_what_is_not_finite_and_refuses_doubles():
    table = tabulate([*THREE, row("sub-04", "bida", math.nan), row("sub-05", "bida", math.inf)])
    assert table[Cell(5.0, "psnr", "brain", "bida")] == {"sub-01": 27.0, "sub-02": 28.0, "sub-03": 30.0}
    with pytest.raises(SettingsError, match="sub-01 has two"):
        tabulate([*THREE, row("sub-01", "bida", math.nan)])


def test_methods_stand_in_their_order_with_the_truth_last():
    names = ["hr", "zeta", "bida", "alpha", "cubic", "nearest"]
    assert methods_of([row("a", name, 1.0) for name in names]) == ["nearest", "cubic", "bida", "alpha", "zeta", "hr"]


def test_numbers_are_shown_with_their_metrics_decimals():
    assert [shown("psnr", 24.126), shown("ssim", 0.9), shown("structure_error", -3.25)] == [
        "24.13",
        "0.900",
        "\u22123.2",
    ]
    assert [shown("residual", 3.2e-7), shown("psnr", None), shown("psnr", math.nan)] == [
        "3e\u221207",
        "\u2013",
        "\u2013",
    ]
    assert [signed(1.234, 2), signed(-1.234, 2), signed(-0.001, 2), signed(0.0, 1)] == [
        "+1.23",
        "\u22121.23",
        "0.00",
        "0.0",
    ]


def test_summary_equals_hand_computation():
    cell = only(summarise(THREE)["cells"], method="bida")
    assert (cell["n"], cell["mean"], cell["median"], cell["min"], cell["max"]) == (3, pytest.approx(85 / 3), 28, 27, 30)
    assert cell["sd"] == pytest.approx(statistics.stdev([27, 28, 30]))
    assert 27 <= cell["low"] < cell["mean"] < cell["high"] <= 30


def test_comparison_is_paired_by_animal_not_by_order():
    rows = [*THREE, row("sub-00", "cubic", 99.0), row("sub-05", "bida", -99.0)]  # animals without a partner
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        entry = only(summarise(rows)["comparisons"], method="cubic")
        assert (entry["n"], entry["above"], entry["below"]) == (3, 3, 0)
        assert (entry["smallest"], entry["largest"], entry["mean_difference"]) == (0.5, 1.5, pytest.approx(1.0))
        assert (entry["p"], entry["smallest_p"], entry["effect"]) == (0.25, 0.25, 1.0)


def test_summary_does_not_depend_on_the_order_of_rows():
    rows = THREE + several("cubic", [1.0, 2.0, 4.0], factor=2.5) + several("bida", [2.0, 2.5, 3.0], factor=2.5)
    assert summarise(rows[::-1]) == summarise(rows)


def test_p_is_corrected_within_a_metric_and_region_over_methods_and_factors():
    generator = random.Random(5)
    rows, shifts = [], {("cubic", 2.5): 0.9, ("cubic", 5.0): 0.4, ("linear", 2.5): 0.6, ("linear", 5.0): 0.1}
    values = {}
    for factor in (2.5, 5.0):
        ours = [generator.gauss(27, 1) for _ in range(9)]
        rows += several("bida", ours, factor=factor)
        for method in ("cubic", "linear"):
            theirs = [value - shifts[method, factor] + generator.gauss(0, 0.5) for value in ours]
            rows += several(method, theirs, factor=factor)
            values[method, factor] = stats.wilcoxon(ours, theirs).pvalue
    rows += several("bida", [5, 6, 7, 9], metric="ssim") + several("cubic", [1, 1, 1, 1], metric="ssim")
    entries = summarise(rows)["comparisons"]
    ordered, least = sorted(values, key=values.__getitem__), 0.0
    for place, key in enumerate(ordered):  # Holm: the k-th smallest of m times m - k + 1, never below the one before
        least = max(least, min(1.0, values[key] * (4 - place)))
        entry = only(entries, metric="psnr", method=key[0], factor=key[1])
        assert (entry["p"], entry["p_holm"], entry["family_size"]) == (
            pytest.approx(values[key]),
            pytest.approx(least),
            4,
        )
    alone = only(entries, metric="ssim")
    assert alone["p_holm"] == alone["p"] and alone["family_size"] == 1


def test_the_truth_and_other_metrics_are_not_compared():
    rows = several("bida", [1, 2, 3], metric="cdsc") + several("hr", [1, 1, 1], metric="cdsc")
    rows += several("bida", [9, 9, 9], metric="seconds") + several("cubic", [1, 1, 1], metric="seconds")
    assert summarise(rows)["comparisons"] == []


def claims(ours, theirs, **more):
    rows = several("bida", ours, **more) + several("cubic", theirs, **more)
    return only(summarise(rows)["comparisons"], method="cubic")["claim"]


def test_three_animals_claim_no_significance():
    assert claims([25.0, 25.0, 25.0], [23.84, 24.09, 24.0]) == (
        "bida mean above cubic on 3 of 3 animals (+0.91 to +1.16 dB); 3 pairs cannot reach p < 0.001 "
        "(smallest possible 0.25), so no significance is claimed"
    )


def test_claims_name_what_was_seen():
    assert claims([2.0], [1.0]).startswith(
        "bida mean above cubic on 1 of 1 animal (+1.00 dB); 1 pair cannot reach p < 0.001"
    )
    assert claims([1, 1, 3], [2, 2, 2]).startswith(
        "bida mean below cubic on 2 of 3 animals, above on 1 (\u22121.00 to +1.00 dB);"
    )
    assert claims([1, 1, 3], [1, 1, 2]).startswith(
        "bida mean equal to cubic on 2 of 3 animals, above on 1 (0.00 to +1.00 dB);"
    )
    assert "(\u22120.50 to \u22120.25 mm; lower is better);" in claims([0.5, 0.5], [1, 0.75], metric="hd95", unit="mm")


def test_many_animals_are_worded_by_the_test():
    theirs = [number / 7 for number in range(12)]
    clear = [value + 1 + number / 100 for number, value in enumerate(theirs)]
    assert claims(clear, theirs).endswith(
        "p = 0.00049 after Holm's correction over 1 comparisons: significant at 0.001"
    )
    mixed = [value + (-1) ** number * (1 + number / 100) for number, value in enumerate(theirs)]
    assert claims(mixed, theirs).endswith("not significant at 0.001")


def test_eleven_pairs_are_too_few_after_correction_of_several_comparisons():
    theirs = [number / 7 for number in range(11)]
    ours = [value + 1 + number / 100 for number, value in enumerate(theirs)]
    rows = several("bida", ours)
    for method in ("nearest", "linear", "cubic"):
        rows += several(method, theirs)
    entry = only(summarise(rows)["comparisons"], method="cubic")
    assert entry["smallest_p"] == 2.0**-10 and entry["smallest_p_holm"] == entry["p_holm"] == 3 * 2.0**-10
    assert worded(entry).endswith(
        "11 pairs cannot reach p < 0.001 after Holm's correction over 3 comparisons (smallest possible 0.0029), "
        "so no significance is claimed"
    )


def test_what_N_allows_is_said():
    summary = summarise(THREE)
    assert (summary["n"], summary["smallest_p"], summary["pairs_needed"]) == (3, 0.25, 11)
    assert summarise(THREE, level=0.05)["pairs_needed"] == 6
    assert summarise(THREE, level=2.0**-4)["pairs_needed"] == 6, "five pairs reach 0.0625 but not below"


def test_one_animal_has_no_spread_and_json_holds_it():
    summary = summarise(several("bida", [2.0]) + several("cubic", [1.0]))
    assert [only(summary["cells"], method="bida")[key] for key in ("mean", "sd", "low", "high")] == [
        2.0,
        None,
        None,
        None,
    ]
    json.dumps(summary, allow_nan=False)


def test_groups_are_described_apart():
    rows = [row("a", "bida", 1.0, group="WT"), row("b", "bida", 3.0, group="WT"), row("c", "bida", 8.0, group="TT")]
    summary = summarise(rows)
    assert summary["groups"] == {"TT": ["c"], "WT": ["a", "b"]}
    assert [(cell["group"], cell["mean"], cell["n"]) for cell in summary["group_cells"]] == [("TT", 8, 1), ("WT", 2, 2)]
    assert summarise(THREE)["group_cells"] == []


def structure(subject, method, volume, error, name="cortex"):
    return [
        row(subject, method, volume, "structure_volume", name, unit="mm3"),
        row(subject, method, error, "structure_error", name, unit="%"),
    ]


def test_agreement_of_volumes_equals_hand_computation():
    # own labels 10 and 20 mm3; a second structure that bida misses in one animal, whose size the truth's row tells
    rows = structure("a", "bida", 11.0, 10.0) + structure("b", "bida", 18.0, -10.0)
    rows += structure("a", "hr", 10.5, 5.0) + structure("b", "hr", 20.0, 0.0)
    rows += structure("a", "bida", 0.0, -100.0, "nerve") + structure("a", "hr", 0.5, -50.0, "nerve")
    rows += [row("a", "bida", 0.8, "structure_dice", "cortex"), row("b", "bida", 0.9, "structure_dice", "cortex")]
    found = summarise(rows)["structures"]
    cortex = only(found, against="labels", method="bida", structure="cortex")
    assert (cortex["n"], cortex["reference_mm3"], cortex["bias_mm3"]) == (2, pytest.approx(15), pytest.approx(-0.5))
    assert cortex["bias_percent"] == pytest.approx(0, abs=1e-12) and cortex["absolute_percent"] == pytest.approx(10)
    assert cortex["dice"] == pytest.approx(0.85)
    spread = 1.96 * statistics.stdev([10, -10])
    assert (cortex["lower_percent"], cortex["upper_percent"]) == (pytest.approx(-spread), pytest.approx(spread))
    nerve = only(found, against="labels", method="bida", structure="nerve")
    assert (nerve["reference_mm3"], nerve["bias_percent"], nerve["upper_percent"]) == (pytest.approx(1), -100, None)
    pooled = only(found, against="labels", method="bida", structure="")
    assert (pooled["n"], pooled["animals"], pooled["bias_percent"]) == (3, 2, pytest.approx(-100 / 3))
    hr = only(found, against="hr", method="bida", structure="cortex")
    assert hr["bias_mm3"] == pytest.approx((0.5 - 2) / 2)
    assert not [entry for entry in found if (entry["against"], entry["method"]) == ("hr", "hr")]


def test_a_structure_that_a_method_lost_counts_as_nothing_left():
    # no row of its volume: that of another method tells the size in the animal's own labels, 2 mm3
    rows = (
        structure("a", "bida", 11.0, 10.0) + structure("a", "hr", 10.0, 0.0) + structure("a", "hr", 1.5, -25, "nerve")
    )
    rows += [row("a", "bida", -100.0, "structure_error", "nerve", unit="%")]
    rows += structure("b", "hr", 10.0, 0.0) + structure("b", "hr", 2.0, 0.0, "nerve")  # bida failed on this animal
    found = summarise(rows)["structures"]
    for against, size in (("labels", 2.0), ("hr", 1.5)):
        nerve = only(found, against=against, method="bida", structure="nerve")
        assert (nerve["n"], nerve["bias_percent"], nerve["reference_mm3"]) == (1, -100, pytest.approx(size))
        assert only(found, against=against, method="bida", structure="")["n"] == 2


def test_bad_requests_are_refused():
    with pytest.raises(SettingsError, match="at least one row"):
        summarise([])
    with pytest.raises(SettingsError, match="level: must be between 0 and 1"):
        summarise(THREE, level=1.5)
