"""The page of a run: what it says is what the record says, and a browser draws it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bida.errors import ScanError
from bida.mri.pipeline import restore
from bida.mri.qc import bricks_of, content, methods_of, write_page
from bida.mri.settings import Settings
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.geometry import SliceGeometry
from bida.physics.simulate import simulate_slices

SETTINGS = Settings(n4=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    import nibabel as nib

    truth, _ = synthetic_brain(0.15, (64, 90, 48))
    thick, _ = simulate_slices(truth, 0.15, 1, 5)
    path = tmp_path_factory.mktemp("scan") / "sub-01_T2w.nii.gz"
    image = nib.Nifti1Image(np.asarray(thick, dtype=np.float32), np.diag([0.15, 0.75, 0.15, 1]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path, restore(path, SETTINGS)


def test_it_says_what_the_record_says(run: tuple[Path, Any]) -> None:
    scan, result = run
    found = content(scan, SETTINGS, result)
    assert found["name"] == "sub-01_T2w.nii.gz"
    assert found["verdict"] == result.record["verdict"]
    assert found["warnings"] == result.record["warnings"]
    assert list(found["volumes"]) == ["thick", "cubic", "result", "uncertainty"]
    std = np.percentile(result.std, (5, 99.5))
    assert found["uncertainty"] == [f"{limit:.3g}" for limit in std]
    numbers = dict(found["numbers"])
    assert numbers["slices"] == "18, 0.75 mm apart, 0.75 mm thick (assumed), profile slr"
    assert numbers["through-plane axis"] == "A (posterior-anterior)"
    assert numbers["better than interpolation"].startswith(f"{result.record['self_check']['better_db']:.1f} dB")
    assert 0.9 < float(numbers["brick index"].split(";")[0]) < 2
    assert result.record["weights_sha256"][:12] in found["methods"]
    assert len(found["references"]) == 3 and "[3]" in found["methods"] and "[4]" not in found["methods"]


def test_it_names_the_scans_that_were_combined(run: tuple[Path, Any]) -> None:
    scan, result = run
    scans = [{"source": f"there/{name}.nii", "joined": name != "b"} for name in "abc"]
    found = content(scan, SETTINGS, replace(result, record={**result.record, "scans": scans}))
    assert found["name"] == "a.nii + c.nii"
    assert found["volumes"]["cubic"]["title"] == "cubic interpolation, of the first scan"
    assert "familiarity" not in dict(found["numbers"])
    assert found["figures"][0].caption.endswith("is told by other scans or filled in.")


def test_copies_of_slices_have_the_larger_brick_index(run: tuple[Path, Any]) -> None:
    _, result = run
    geometry = SliceGeometry(1, 18, 0.75, 0.75, 90, 0.15)
    bars = np.repeat(result.data[:, 2::5], 5, axis=1)
    mine, copies = bricks_of(result.data, geometry), bricks_of(bars, geometry)
    assert mine is not None and copies is not None and copies > 3 * mine
    assert bricks_of(result.data[:, :80], geometry) is None  # another grid


def test_methods_follow_the_settings(run: tuple[Path, Any]) -> None:
    _, result = run
    record = {**result.record, "self_check": None, "scans": [{"joined": True}, {"joined": True}, {"joined": False}]}
    text, cited = methods_of(record, Settings(profile="box", samples=4, n4=True), None, (0.2, 0.2, 0.2))
    assert text.startswith("2 scans of the animal were combined and restored to voxels of 0.2 x 0.2 x 0.2 mm")
    assert "the profile box" in text and "the mean of 4 draws" in text and "put back after" in text
    assert "interpolation" not in text
    assert [one.split()[0] for one in cited] == ["Gharib", "Wang", "Tustison"]


def test_an_existing_page_is_kept(run: tuple[Path, Any], tmp_path: Path) -> None:
    scan, result = run
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(ScanError, match=r"page\.html: output must not exist"):
        write_page(tmp_path / "page.html", scan, SETTINGS, result)
    assert (tmp_path / "page.html").read_text() == "mine"


CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium here")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    flags = (
        "--headless=new --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --window-size=1400,1100 "
        "--no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-quic"
    )
    for flag in flags.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def pixels(browser: Any, canvas: str) -> np.ndarray:
    """The picture of a canvas as the page shows it, [rows, columns, 3]."""
    import io

    from PIL import Image

    shot = Image.open(io.BytesIO(browser.find_element("id", canvas).screenshot_as_png)).convert("RGB")
    return np.asarray(shot).astype(float)


def set_to(browser: Any, element: str, value: object, event: str) -> None:
    script = (
        "e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]))"
    )
    browser.execute_script(script, element, value, event)
    time.sleep(0.5)


@pytest.mark.slow
def test_a_browser_draws_and_swipes_offline(run: tuple[Path, Any], browser: Any, tmp_path: Path) -> None:
    from selenium import webdriver

    scan, result = run
    file = write_page(tmp_path / "page.html", scan, SETTINGS, result)
    assert file.stat().st_size < 15e6
    browser.get(file.as_uri())
    for _ in range(300):
        if browser.execute_script("return document.body.dataset.ready"):
            break
        time.sleep(0.2)
    assert browser.execute_script("return document.body.dataset.ready") == "true"
    assert not browser.find_element("id", "trouble").is_displayed()
    time.sleep(0.5)
    drawn = {name: pixels(browser, name) for name in ("thick", "cubic", "result")}
    assert all(picture.std() > 20 for picture in drawn.values())
    assert np.abs(drawn["thick"] - drawn["result"]).mean() > 0.5
    low, high = (f"{limit:.3g}" for limit in np.percentile(result.std, (5, 99.5)))
    assert not browser.find_element("id", "legend").is_displayed()  # while no uncertainty is
    set_to(browser, "uncertainty", 80, "input")
    assert browser.find_element("id", "legend").text.split()[-2:] == [low, high]
    assert browser.find_element("css selector", "#legend i").size["width"] > 50
    red_less_blue = [np.abs(one[..., 0] - one[..., 2]).mean() for one in (pixels(browser, "result"), drawn["cubic"])]
    assert red_less_blue[0] > 5 * red_less_blue[1]
    set_to(browser, "uncertainty", 0, "input")
    browser.find_element("id", "swipe").click()
    assert not browser.find_element("id", "thick").is_displayed()
    pictures = []
    for share in (0, 100):
        set_to(browser, "cut", share, "input")
        pictures.append(pixels(browser, "panes"))
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.2  # the result alone, then the interpolation alone
    browser.find_element("id", "beside").click()
    set_to(browser, "plane", 0, "change")
    cubic = browser.find_element("id", "cubic")
    webdriver.ActionChains(browser).move_to_element_with_offset(cubic, 30, 60).click().perform()
    time.sleep(0.5)
    places = [browser.execute_script(f"return [...views.{name}.scene.crosshairPos]") for name in ("cubic", "result")]
    assert np.abs(np.subtract(places[0], 0.5)).max() > 0.02  # the click moved it
    np.testing.assert_allclose(places[1], places[0], atol=0.02)
    errors = [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
    assert errors == []


def test_pages_need_nothing_beside_them(run: tuple[Path, Any], tmp_path: Path) -> None:
    scan, result = run
    text = write_page(tmp_path / "page.html", scan, SETTINGS, result).read_text()
    outside = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", outside) == []
