"""The files that pydicom is tested with: each decodes or is refused with a code, with pydicom's own pixels.

They are taken from disk only, from pydicom's wheel and from pydicom-data where that is installed. All of them
run in one subprocess, whose peak of memory is judged too; a file that hangs ends it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.plane import Plane, channels_of
from mxbatch.engine.decode.prepare import prepare
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.errors import CODES, RadiographError

CONTRACT, LIMITS = InputContract(size=128, window=(0, 100), jpeg_scaled=False), Limits()

_DECODE_ALL = r"""
import faulthandler, json, re, sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.errors import RadiographError

outcomes = {}
for name in json.load(sys.stdin):
    faulthandler.dump_traceback_later(60, exit=True)  # a file that takes so long hangs
    try:
        decode(Path(name).read_bytes(), InputContract(), Limits())
        outcome = "decoded"
    except RadiographError as error:
        outcome = error.code
    outcomes[name] = outcome
faulthandler.cancel_dump_traceback_later()
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"outcomes": outcomes, "peak_kb": int(peak[1])}))
"""

_REFUSED_PICTURES = {
    "emri_small_jpeg_2k_lossless_too_short.dcm": "MX-D501",
    "MR_truncated.dcm": "MX-D501",
    "JPEG2000-embedded-sequence-delimiter.dcm": "MX-D502",  # no decoder that pydicom knows takes it either
    "gdcm-US-ALOKA-16.dcm": "MX-D505",  # palettes in segments
    "gdcm-US-ALOKA-16_big.dcm": "MX-D505",
}

_OUT_OF_GAMUT = {  # colours that RGB has to clip, and luma alone does not; in grey levels
    "SC_jpeg_no_color_transform_2.dcm": 20,
    "SC_rgb_jpeg_app14_dcmd.dcm": 20,
    "SC_rgb_dcmtk_+eb+cy+np.dcm": 8,
    "examples_ybr_color.dcm": 8,
}


def files_on_disk() -> list[Path]:
    """Every file of pydicom's test collections that lies on this disk."""
    folders = []
    for package, folder in (("pydicom", "data/test_files"), ("data_store", "data")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent / folder)
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


FILES = files_on_disk()


@pytest.fixture(scope="module")
def report():
    run = subprocess.run(
        [sys.executable, "-c", _DECODE_ALL],
        input=json.dumps([str(path) for path in FILES]),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_the_collection_is_there():
    assert len(FILES) > 150


def test_every_file_decodes_or_is_refused_with_a_code(report):
    outcomes = report["outcomes"]
    assert len(outcomes) == len(FILES)
    assert {outcome for outcome in outcomes.values() if outcome not in CODES} == {"decoded"}
    assert sum(outcome == "decoded" for outcome in outcomes.values()) > 90


def test_pictures_are_refused_for_the_reasons_we_know(report):
    refused = {
        Path(name).name: outcome
        for name, outcome in report["outcomes"].items()
        if outcome[:5] == "MX-D5" and outcome != "MX-D506"
    }
    allowed = {
        **_REFUSED_PICTURES,
        "rtplan_truncated.dcm": "MX-D501",
        "meta_missing_tsyntax.dcm": "MX-D502",
        "nested_priv_SQ.dcm": "MX-D502",
    }
    assert refused.items() <= allowed.items()


def test_no_file_takes_a_gigabyte(report):
    assert report["peak_kb"] < 1_000_000


def _pydicom_shows(path: Path):
    """The first frame as pydicom reads it, through the same contract; None where pydicom gives no pixels."""
    import pydicom
    from pydicom.pixels import apply_color_lut, pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, force=True)
            photometric = dataset.PhotometricInterpretation
            if photometric == "PALETTE COLOR":
                pixels = apply_color_lut(pixel_array(dataset, index=0), dataset)
            else:
                pixels = pixel_array(dataset, index=0, raw=photometric == "YBR_FULL")
                pixels = pixels[..., 0] if photometric == "YBR_FULL" else pixels
        except (
            AttributeError,
            ValueError,
            RuntimeError,
            NotImplementedError,
            pydicom.errors.InvalidDicomError,
        ):
            return None
    samples = [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))
    height, width = pixels.shape[:2]
    return prepare(Plane(channels_of(samples), width, height, photometric == "MONOCHROME1"), CONTRACT)


def test_pixels_equal_those_that_pydicom_reads(monkeypatch):
    monkeypatch.setattr(logging.getLogger("pydicom.pixels.decoders.base"), "disabled", True)
    compared, different = 0, {}
    for path in FILES:
        if path.stat().st_size > 5_000_000 or path.name in _REFUSED_PICTURES:
            continue
        try:
            ours = decode(path.read_bytes(), CONTRACT, LIMITS).image
        except RadiographError:
            continue
        if (theirs := _pydicom_shows(path)) is not None:
            compared += 1
            difference = np.abs(ours.astype(int) - theirs).max()
            if difference > _OUT_OF_GAMUT.get(path.name, 3):
                different[path.name] = int(difference)
    assert compared > 90
    assert different == {}
