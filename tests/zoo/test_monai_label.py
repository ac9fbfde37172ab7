"""MONAI Label serves the bundle's folder as it is; in an environment of its own, `zoo/monai_label_env.sh` makes it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import nibabel as nib
import numpy as np
import pytest
from conftest import ROOT, MakeScan, load_benchmark

from bida import superres
from bida.mri.synthetic_brain import synthetic_brain
from bida.physics.simulate import simulate_slices
from bida.transforms.save import NOTE

ENVIRONMENT = Path(os.environ.get("BIDA_MONAI_LABEL", ROOT / "build" / "monai-label"))
BUILD = load_benchmark("build", "zoo")
CLIENT = """
import json, sys
import requests
from requests_toolbelt.multipart import decoder

url, scan, out = sys.argv[1:]
answer = requests.post(url, params={"output": "all"}, files={"file": ("scan.nii.gz", open(scan, "rb"))},
                       data={"params": json.dumps({"device": "cpu"})}, timeout=300)
assert answer.status_code == 200, answer.text
for part in decoder.MultipartDecoder.from_response(answer).parts:
    kind = "json" if b'"params"' in part.headers[b"Content-Disposition"] else "nii.gz"
    open(f"{out}.{kind}", "wb").write(part.content)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENVIRONMENT.is_dir(), reason="no MONAI Label here; zoo/monai_label_env.sh makes it"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the bundle, on loopback."""
    folder = tmp_path_factory.mktemp("label")
    (sample,) = ENVIRONMENT.glob("monailabel/sample-apps/monaibundle")
    shutil.copytree(sample, folder / "app")
    (folder / "studies").mkdir()
    zipfile.ZipFile(BUILD.build(folder / "zoo", style=False)).extractall(folder / "app" / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--app", folder / "app", "--studies", folder / "studies", "--host", "127.0.0.1", "--port", port]
    conf = ["--conf", "models", BUILD.NAME, "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    words = [ENVIRONMENT / "bin" / "python", "-m", "monailabel.main", "start_server", *flags, *conf]
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(list(map(str, words)), stdout=out, stderr=out, cwd=folder)
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                urlopen(f"http://127.0.0.1:{port}/info/", timeout=5).read()
                break
            except URLError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def ask(server: str, scan: Path, out: Path) -> tuple[nib.Nifti1Image, dict[str, Any]]:
    words = [ENVIRONMENT / "bin" / "python", "-c", CLIENT, f"{server}/infer/{BUILD.NAME}", scan, out]
    subprocess.run(list(map(str, words)), check=True, timeout=300)
    return nib.load(f"{out}.nii.gz"), json.loads(Path(f"{out}.json").read_text())


def test_two_requests_give_two_volumes_on_their_own_grids(server: str, make_scan: MakeScan, tmp_path: Path) -> None:
    truth, _ = synthetic_brain(0.15, (64, 100, 48))
    thick = simulate_slices(truth, 0.15, 1, 5)[0]
    spacing = (0.15, 0.75, 0.15)
    scans = [
        make_scan(thick.shape, spacing, values=thick, name="brain.nii.gz"),
        make_scan(thick.shape, spacing, values=thick[::-1].copy(), tilt_deg=15, name="turned.nii.gz"),
    ]
    for number, scan in enumerate(scans):
        image, told = ask(server, scan, tmp_path / f"result{number}")
        expected = superres(scan, dtype="float32")
        np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
        assert image.shape == expected.data.shape
        scale = np.ptp(expected.data)
        np.testing.assert_allclose(image.get_fdata(), expected.data, atol=1e-3 * scale)
        assert told["note"] == NOTE
        assert told["verdict"] == expected.record["verdict"]
        assert told["verdict"].startswith("on this scan: ")


def test_the_server_says_what_it_has(server: str) -> None:
    models = json.loads(urlopen(f"{server}/info/", timeout=30).read())["models"]
    assert models[BUILD.NAME]["version"] == json.loads((ROOT / "metadata.json").read_text())["version"]
    assert models[BUILD.NAME]["config"]["model_filename"] == ["model.pt"]
