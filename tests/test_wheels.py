"""Which wheels fit where, and what a platform needs; without the index."""

import pytest
from conftest import ROOT, load_benchmark
from packaging.version import Version

wheels = load_benchmark("wheels", "containers")
LINUX, ARM, MAC, INTEL, WINDOWS = wheels.PLATFORMS


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("p-1.0-py3-none-any.whl", "LAMIW"),
        ("p-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "L"),
        ("p-1.0-cp311-cp311-manylinux1_x86_64.whl", "L"),
        ("p-1.0-cp39-abi3-manylinux_2_28_aarch64.whl", "A"),  # the stable interface serves later Pythons
        ("p-1.0-cp311-cp311-manylinux_2_34_x86_64.whl", ""),  # a newer glibc
        ("p-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", ""),
        ("p-1.0-cp312-cp312-win_amd64.whl", ""),  # another Python
        ("p-1.0-cp312-abi3-win_amd64.whl", ""),
        ("p-1.0-cp311-cp311-win_amd64.whl", "W"),
        ("p-1.0-cp311-cp311-win_arm64.whl", ""),
        ("p-1.0-cp311-cp311-macosx_11_0_arm64.whl", "M"),
        ("p-1.0-cp311-cp311-macosx_10_9_universal2.whl", "MI"),
        ("p-1.0-py3-none-macosx_15_0_x86_64.whl", ""),  # a newer macOS
        ("p-1.1-py3-none-any.whl", ""),  # another release
        ("p-1.0-1-py3-none-any.whl", "LAMIW"),  # a build number
    ],
)
def test_a_wheel_fits_where_its_tags_say(name, places):
    found = {
        key: wheels.verdict([{"filename": name}], Version("1.0+cpu"), one, (3, 11))
        for key, one in zip("LAMIW", wheels.PLATFORMS)
    }
    assert found == {key: "wheel" if key in places else "nothing" for key in "LAMIW"}


def test_source_counts_where_no_wheel_fits_and_python_must_fit():
    files = [
        {"filename": "p-1.0.tar.gz", "requires-python": ">=3.9"},
        {"filename": "p-1.0-py3-none-any.whl", "requires-python": ">=3.12"},
        {"filename": "p-1.0-py2.4.exe"},
        {"filename": "p-1.0-nonsense.whl"},
    ]
    found = [wheels.verdict(files, Version("1.0"), LINUX, python) for python in wheels.PYTHONS]
    assert found == ["source", "wheel", "wheel"]
    assert wheels.verdict(files[:1], Version("1.1"), LINUX, (3, 11)) == "nothing"
    late = [{"filename": "p-1.0-py3-none-any.whl", "requires-python": ">3.11"}]  # as ome-zarr 0.18 says; 3.11.1 is
    assert wheels.verdict(late, Version("1.0"), LINUX, (3, 11)) == "wheel"


def test_a_platform_needs_what_its_markers_ask_for():
    asks = {
        "a": ["B[fast]>=1", "w; sys_platform == 'win32'", "old; python_version < '3.12'", "tests; extra == 'dev'"],
        "b": ["c", "speed; extra == 'fast'", "slow; extra == 'other'", "arm; platform_machine == 'aarch64'"],
        "speed": ["a"],  # a circle
    }
    found = {
        one.name: wheels.needed(["a"], wheels.markers_of(one, (3, 11)), lambda name: asks.get(name, []))
        for one in (LINUX, ARM, WINDOWS)
    }
    everywhere = {"a", "b", "c", "speed", "old"}
    assert found == {LINUX.name: everywhere, ARM.name: everywhere | {"arm"}, WINDOWS.name: everywhere | {"w"}}
    assert wheels.needed(["a"], wheels.markers_of(LINUX, (3, 12)), lambda name: asks.get(name, [])) == everywhere - {
        "old"
    }


def test_the_table_has_a_row_for_what_lacks_a_wheel():
    full = {(one.name, python): "wheel" for one in wheels.PLATFORMS for python in wheels.PYTHONS}
    bad = {place: "source" if place == (ARM.name, (3, 13)) else "wheel" for place in full if place[0] != INTEL.name}
    lines = wheels.table({"a 1": full, "b 2": bad, "c 3": full}).splitlines()
    assert lines[2] == "| b 2 | yes | yes on 3.11, 3.12; source only on 3.13 | yes | not needed | yes |"
    assert lines[-1] == "All other 2 packages have wheels wherever they are needed."
    assert wheels.table({"a 1": full}) == "All 1 packages have wheels wherever they are needed.\n"


def test_the_page_has_the_answer_for_the_pins():
    page = wheels.PAGE.read_text(encoding="utf-8")
    told = page.split(wheels.START)[1].split(wheels.END)[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in told.splitlines() if line.startswith("| ")][2:]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    torch = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert rows
    for row in rows:
        pin = row.replace(" ", "==")
        assert pin in pins or (pin.startswith("torch==") and pin in torch), f"{row}: run containers/wheels.py again"
