"""The report: its numbers are the rows' own, it holds together alone, and what is missing leaves a visible gap."""

import base64
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from itertools import product

import numpy as np
import pytest
from jinja2 import UndefinedError

from bida.errors import ScanError, SettingsError
from bida.experiment.design import CLEAN, ONE
from bida.experiment.methods import label_of
from bida.experiment.report.figures import _bland_altman_figure, _box_figure, bland_altman, box_plots
from bida.experiment.report.sections import template, write_report
from bida.experiment.results import COLUMNS, shown
from bida.experiment.summary import summarise

# one white pixel
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII=")
NASTY = '<script>alert(\'1\')</script> & "b" <img src="http://x.org/y.png">'
UNITS = {"psnr": "dB", "seconds": "s", "hd95": "mm"}
SUBJECTS = {"sub-08": "WT", "sub-14": "UT", "sub-21": "WT"}


def make_rows(subjects=SUBJECTS, methods=("cubic", "bida"), factors=(2.5, 5.0), metrics=("psnr",), sets=(ONE,)):
    """Rows of random numbers that no two methods share."""
    generator = np.random.default_rng(2)
    regions = {"psnr": "brain", "cdsc": "builtin", "hd95": "builtin", "sharpness": "A"}
    rows = []
    for subject, group in subjects.items():
        for factor, scans in product(factors, sets):
            for method in methods:
                for metric in metrics:
                    value = float(generator.uniform(0.1, 0.9) * (30 if metric == "psnr" else 1))
                    head = (subject, group, factor, CLEAN, scans, method, metric, regions.get(metric, ""), value)
                    rows.append(dict(zip(COLUMNS, (*head, UNITS.get(metric, "")))))
    return rows


def structures(subjects=SUBJECTS, methods=("bida", "hr")):
    generator = np.random.default_rng(3)
    rows = []
    for subject, group in subjects.items():
        for method in methods:
            for size, name in ((2.0, "1"), (30.0, "2")):
                error = float(generator.normal(0, 5))
                for metric, value in (("structure_error", error), ("structure_volume", size * (1 + error / 100))):
                    rows.append(dict(zip(COLUMNS, (subject, group, 5.0, CLEAN, ONE, method, metric, name, value, ""))))
    return rows


class Page(HTMLParser):
    """The page as a reader's program sees it: elements with their attributes, tables as lists of lines, all text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.text, self.inside = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append({"caption": "", "lines": []})
        elif tag == "tr":
            self.tables[-1]["lines"].append([])
        elif tag in ("th", "td"):
            self.tables[-1]["lines"][-1].append("")
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        self.text += data
        if self.inside == "caption":
            self.tables[-1]["caption"] += data
        elif self.inside in ("th", "td"):
            self.tables[-1]["lines"][-1][-1] += data

    def table(self, caption, first=""):
        """The table of a caption and of a first column's title, as {name: {column: cell}}."""
        (found,) = [t for t in self.tables if t["caption"].startswith(caption) and t["lines"][0][0].startswith(first)]
        head, *lines = found["lines"]
        return {line[0]: dict(zip(head, line)) for line in lines}


def write(folder, rows, failures=(), montages=(("sub-08, 5x", PIXEL),), settings=None, command="", notes=()):
    file = folder / "report.html"
    write_report(file, rows, summarise(rows), montages, settings or {}, command, failures, notes)
    return Page(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows():
    return make_rows(metrics=("psnr", "cdsc", "hd95", "seconds", "sharpness")) + structures()


@pytest.fixture(scope="module")
def page(rows, tmp_path_factory):
    failure = {"subject": NASTY, "part": "method", "error": f"scan: {NASTY}", "traceback": "File secret.py"}
    return write(
        tmp_path_factory.mktemp("report"),
        rows,
        failures=[failure],
        montages=[(NASTY, PIXEL), ("sub-14", PIXEL)],
        settings={NASTY: NASTY, "draws": 4, "weights": {"model.pt": "3fa2"}},
        command=f"bida evaluate --data '{NASTY}'",
        notes=["These strippers are not the paper's.", NASTY],
    )


def values_of(rows, factor, method, metric):
    wanted = (factor, method, metric)
    return [r["value"] for r in rows if (r["factor"], r["method"], r["metric"]) == wanted]


@pytest.mark.parametrize(
    "metric, column, decimals", [("psnr", "PSNR, brain (dB)", 2), ("hd95", "HD95, builtin (mm)", 2)]
)
@pytest.mark.parametrize("factor", [2.5, 5.0])
@pytest.mark.parametrize("method", ["cubic", "bida"])
def test_main_table_holds_mean_and_deviation_of_the_rows(page, rows, metric, column, decimals, factor, method):
    values = values_of(rows, factor, method, metric)
    expected = f"{statistics.mean(values):.{decimals}f} \u00b1 {statistics.stdev(values):.{decimals}f}"
    (table,) = [
        t for t in page.tables if t["caption"].startswith(f"{factor:g}\u00d7: mean") and column in t["lines"][0]
    ]
    place = table["lines"][0].index(column)
    (line,) = [line for line in table["lines"] if line[0] == label_of(method)]
    assert line[place] == expected


def test_every_number_of_every_animal_is_there(page, rows):
    for factor in (2.5, 5.0):
        (table,) = [t for t in page.tables if t["caption"] == f"{factor:g}\u00d7" and t["lines"][0][0] == "animal"]
        head, *lines = table["lines"]
        assert head[2:] == ["PSNR, brain (dB)", "cDSC, builtin", "HD95, builtin (mm)", "Time (s)"]
        found = {(line[0], line[1]): line[2:] for line in lines}
        for subject in SUBJECTS:
            for method in ("cubic", "bida"):
                values = {
                    r["metric"]: shown(r["metric"], r["value"])
                    for r in rows
                    if (r["subject"], r["factor"], r["method"]) == (subject, factor, method)
                }
                assert found[subject, label_of(method)] == [values[m] for m in ("psnr", "cdsc", "hd95", "seconds")]


def test_tests_and_claims_are_those_of_the_summary(page, rows):
    entries = summarise(rows)["comparisons"]
    for entry in entries:
        assert entry["claim"] in page.text
    (entry,) = [e for e in entries if (e["metric"], e["factor"]) == ("psnr", 2.5)]
    (table,) = [t for t in page.tables if t["caption"] == "PSNR, brain (dB)"]
    assert table["lines"][1][:4] == [
        "cubic",
        "2.5\u00d7",
        "3",
        f"{entry['mean_difference']:+.2f}".replace("-", "\u2212"),
    ]
    assert table["lines"][1][-3:] == [f"{entry['p']:.2g}", f"{entry['p_holm']:.2g}", "0.25"]
    assert "With 3 pairs the smallest p that the test can give is 0.25, and p < 0.001 needs 11 pairs" in page.text
    assert "no significance is claimed" in page.text


def test_volumes_of_structures_are_the_rows_own(page, rows):
    errors = values_of(rows, 5.0, "bida", "structure_error")
    line = page.table("All structures pooled, against the animals' own")["bida mean"]
    assert line["volumes (animals)"] == "6 (3)"
    assert line["mean |error| (%)"] == f"{np.abs(errors).mean():.1f}"
    assert line["bias (%)"] == f"{np.mean(errors):+.1f}".replace("-", "\u2212")
    ends = [np.mean(errors) + sign * 1.96 * statistics.stdev(errors) for sign in (-1, 1)]
    assert line["limits of agreement (%)"] == " to ".join(f"{end:+.1f}".replace("-", "\u2212") for end in ends)


def test_nothing_given_becomes_markup(page):
    tags = [tag for tag, _ in page.elements]
    assert "script" not in tags
    assert page.text.count("<script>alert('1')</script>") >= 6, "setting (2), command, caption, failure (2), note"
    alternatives = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert any(NASTY in text for text in alternatives)


def test_names_of_the_users_own_become_no_markup(tmp_path):
    """Methods, animals, groups, regions and metrics come from folders, tables and registries of anyone."""
    named = {"sub-1<b>&amp;": "<u>WT</u>", "sub-2<b>&amp;": "<u>WT</u>", "sub-3<b>&amp;": "a & b"}
    rows = make_rows(named, methods=("cubic", "<em>m</em>", "bida"), metrics=("psnr", "<q>new</q>"))
    rows += structures(named, methods=("<em>m</em>", "bida", "hr"))
    rows = [row | {"region": row["region"] + "<wbr>"} for row in rows]
    page = write(tmp_path, rows, montages=[("sub-1<b>&amp;, 5x", PIXEL)])
    assert not {"b", "u", "em", "q", "wbr"} & {tag for tag, _ in page.elements}
    for text in (*named, *named.values(), "<em>m</em>", "<q>new</q>", "brain<wbr>", "<u>WT</u>, 5\u00d7: mean"):
        assert text in page.text
    alternatives = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert any("sub-1<b>&amp;, 5x" in text for text in alternatives)


def test_a_gap_that_nothing_fills_is_an_error():
    with pytest.raises(UndefinedError, match="summary"):
        template().render()


def test_page_needs_nothing_beside_itself(page):
    assert not [a for _, a in page.elements if "href" in a or "data" in a or any(key.startswith("on") for key in a)]
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    sources = [a["src"] for _, a in page.elements if "src" in a]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    pictures = [base64.b64decode(source.partition(",")[2]) for source in sources]
    assert pictures.count(PIXEL) == 2 and all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert len(pictures) == 2 + 3, "montages; PSNR, cDSC, agreement"
    assert all(a.get("alt") for tag, a in page.elements if tag == "img")


def test_style_loads_nothing(tmp_path):
    write(tmp_path, make_rows())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|https?:", text)


def test_what_was_used_is_told(page):
    assert "bida evaluate --data" in page.text and "These strippers are not the paper's." in page.text
    assert '{"model.pt": "3fa2"}' in page.text
    assert "secret.py" not in page.text, "a traceback is for failures.json"


def test_groups_are_told_apart(page, rows):
    assert "UT: sub-14; WT: sub-08, sub-21" in page.text
    wanted = [
        r["value"] for r in rows if (r["group"], r["factor"], r["method"], r["metric"]) == ("WT", 5.0, "bida", "psnr")
    ]
    cell = page.table("WT, 5\u00d7: mean")["bida mean"]["PSNR, brain (dB)"]
    assert cell == f"{statistics.mean(wanted):.2f} \u00b1 {statistics.stdev(wanted):.2f}"


def test_one_animal_has_no_deviation(tmp_path):
    subjects = {"sub-01": ""}
    page = write(tmp_path, make_rows(subjects, metrics=("psnr", "cdsc")) + structures(subjects))
    assert "\u00b1" not in page.text and not re.search(r"\b(nan|None|null)\b", page.text)
    assert "5\u00d7: one animal" in page.text and "By group" not in page.text
    assert "With 1 pair the smallest p that the test can give is 1," in page.text


def test_missing_cells_leave_a_gap(tmp_path):
    rows = [r for r in make_rows() if (r["subject"], r["factor"], r["method"]) != ("sub-14", 5.0, "cubic")]
    failures = [{"subject": "sub-14", "method": "cubic", "error": "out of memory"}]
    failures += [{"subject": name, "method": "selfsr", "error": "no GPU"} for name in SUBJECTS]
    page = write(tmp_path, rows, failures=failures, montages=())
    table = page.table("5\u00d7: mean")
    assert set(table) == {"cubic (n = 2)", "bida mean", "selfsr"}
    assert table["selfsr"]["PSNR, brain (dB)"] == "\u2013"
    assert "4 parts of the evaluation failed" in page.text and "no GPU" in page.text
    figure = _box_figure(rows, "psnr", "brain", ["cubic", "bida", "selfsr"])
    for axes, label in zip(figure.axes, ("cubic", "cubic (n = 2)")):
        assert [text.get_text() for text in axes.texts] == ["no result"]
        assert axes.texts[0].get_position()[0] == 2
        assert [text.get_text() for text in axes.get_xticklabels()] == [label, "bida mean", "selfsr"]


def test_only_one_method_and_no_failure(tmp_path):
    page = write(tmp_path, make_rows(methods=("bida",)))
    assert "bida mean was compared with no other method" in page.text and "Failures" not in page.text


def test_boxes_show_every_animal(rows):
    figure = _box_figure(rows, "psnr", "brain", None)
    assert [axes.get_title() for axes in figure.axes] == ["2.5\u00d7", "5\u00d7"]
    for axes, factor in zip(figure.axes, (2.5, 5.0)):
        lines = {line.get_label(): line.get_ydata() for line in axes.lines if line.get_label() in SUBJECTS}
        for number, subject in enumerate(SUBJECTS):
            expected = [values_of(rows, factor, method, "psnr")[number] for method in ("cubic", "bida")]
            np.testing.assert_array_equal(lines[subject], expected)
        medians = [line.get_ydata()[0] for line in axes.lines if line.get_linewidth() == 1.4]
        expected = [statistics.median(values_of(rows, factor, method, "psnr")) for method in ("cubic", "bida")]
        assert medians == pytest.approx(expected)


def test_agreement_is_drawn_at_bias_and_limits(rows):
    figure = _bland_altman_figure(rows)
    assert [axes.get_title() for axes in figure.axes] == ["bida mean", "hr"]
    for axes, method in zip(figure.axes, ("bida", "hr")):
        errors = values_of(rows, 5.0, method, "structure_error")
        mean, spread = statistics.mean(errors), 1.96 * statistics.stdev(errors)
        heights = [line.get_ydata()[0] for line in axes.lines if line.get_color() == "black"]
        assert heights == pytest.approx([mean, mean - spread, mean + spread])
        (points,) = [line for line in axes.lines if line.get_marker() == "o"]
        assert sorted(points.get_ydata()) == pytest.approx(sorted(errors))
        assert set(np.round(points.get_xdata(), 9)) == {2.0, 30.0}, "the size by the animal's own labels"


def test_figures_without_numbers_are_refused(rows):
    with pytest.raises(SettingsError, match="needs rows of ssim brain, got none"):
        box_plots(rows, "ssim", "brain")
    with pytest.raises(SettingsError, match="needs rows of structure_volume"):
        bland_altman(make_rows())


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ScanError, match="must be writable"):
        write(tmp_path / "missing", make_rows(factors=(5.0,)), montages=())
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_imported_only_when_drawing():
    code = "import sys, bida.experiment.report.sections; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
