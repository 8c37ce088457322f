"""`mxbatch demo`: a small archive of drawn radiographs in the EBI layout, scored with the untrained example.

The drawings are just enough to look at and to feed every decoder; they carry no anatomy to learn from.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import UsageError
from mxbatch.engine.score import Summary, score

VIEW_PARAMETERS = {
    "dv": "IMPC_XRY_034_001",
    "lv": "IMPC_XRY_048_001",
    "forepaw": "IMPC_XRY_049_001",
    "skull_lv": "IMPC_XRY_050_001",
    "skull_dv": "IMPC_XRY_051_001",
    "hind_leg": "IMPC_XRY_052_001",
}

CENTRES = {
    "MRC Harwell": ("HRWL_001", "IMPC_XRY_001", "dicom", ("dv", "lv", "skull_dv")),
    "BCM": ("BCM_001", "IMPC_XRY_001", "jpeg", ("dv", "lv", "forepaw", "skull_dv", "skull_lv")),
    "UC Davis": ("UCD_001", "IMPC_XRY_001", "png", ("dv", "lv")),
    "ICS": ("ICS_001", "IMPC_XRY_001", "bmp", ("dv", "lv")),
    "WTSI": ("MGP_001", "MGP_XRY_001", "tiff", ("dv", "hind_leg", "skull_dv")),
}
"""Centre -> pipeline, procedure, the format of its files, its views; after research on real archives."""

COLUMNS = (
    "observation_id",
    "download_file_path",
    "phenotyping_center",
    "pipeline_stable_id",
    "procedure_stable_id",
    "parameter_stable_id",
    "external_sample_id",
    "date_of_experiment",
    "colony_id",
    "gene_symbol",
    "allele_symbol",
    "zygosity",
    "sex",
    "biological_sample_group",
    "age_in_weeks",
    "metadata_group",
)
"""Of the Solr core `impc_images`, those that a centre's index needs."""


def run_demo(folder: Path, *, specimens: int = 12, **options: Any) -> Summary:
    """Make `folder/archive` and `folder/model`, and score them into `folder/out`; or go on with what is there.

    Raises UsageError when `folder` is something else.
    """
    from mxbatch.engine.bundle import write_untrained

    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            make_archive(made / "archive", specimens=specimens)
            write_untrained(made / "model")
            made.rename(folder)
    elif not (folder / "model" / "bundle.toml").exists():
        raise UsageError("MX-U001", "this is no demo's folder", path=folder, fix="name a new folder")
    return score(folder / "archive", folder / "out", model=folder / "model", **options)


def make_archive(root: Path, *, specimens: int, seed: int = 0) -> None:
    """Draw `specimens` mice in the EBI mirror's layout, each centre in its format, with `impc_images.csv`."""
    rows: list[dict[str, str]] = []
    for number in range(specimens):
        centre = list(CENTRES)[number % len(CENTRES)]
        pipeline, procedure, file_format, views = CENTRES[centre]
        day = date(2026, 1, 5) + timedelta(days=number)
        for view in views:
            media = 100_000 + len(rows)
            path = Path(
                centre, pipeline, procedure, VIEW_PARAMETERS[view], f"{media}.{SUFFIXES[file_format]}"
            )
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            picture = draw_radiograph(view, seed=hash_of(seed, number, view))
            (root / path).write_bytes(FILE_FORMATS[file_format](picture))
            knockout = number % 3 > 0
            values = (
                f"observation-{media}",
                path.as_posix(),
                centre,
                pipeline,
                procedure,
                VIEW_PARAMETERS[view],
                f"{centre.split()[-1]}-{number:04d}",
                f"{day}T00:00:00Z",
                f"DEMO{number // 4}" if knockout else "baseline",
                "Demo1" if knockout else "",
                "Demo1<tm1b(drawn)>" if knockout else "",
                "homozygote" if knockout else "",
                ("female", "male")[number % 2],
                ("control", "experimental")[knockout],
                "14",
                "drawn",
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    with (root / "impc_images.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def hash_of(*parts: object) -> int:
    """A seed that is the same on every machine and in every process."""
    from zlib import crc32

    return crc32(repr(parts).encode())


def _eight_bit(picture: NDArray[np.uint16]) -> Image.Image:
    return Image.fromarray((picture >> 4).astype(np.uint8))


def _pillow(file_format: str, **options: Any) -> Callable[[NDArray[np.uint16]], bytes]:
    def encode(picture: NDArray[np.uint16]) -> bytes:
        buffer = io.BytesIO()
        _eight_bit(picture).save(buffer, file_format, **options)
        return buffer.getvalue()

    return encode


def _dicom(picture: NDArray[np.uint16]) -> bytes:
    """An uncompressed 16-bit computed radiograph, as most centres keep them."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(int(picture.sum()))])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = picture.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = picture.astype("<u2").tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _tiff(picture: NDArray[np.uint16]) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, photometric="minisblack")
    return buffer.getvalue()


FILE_FORMATS: dict[str, Callable[[NDArray[np.uint16]], bytes]] = {
    "jpeg": _pillow("JPEG", quality=90),
    "png": _pillow("PNG"),
    "bmp": _pillow("BMP"),
    "tiff": _tiff,
    "dicom": _dicom,
}
SUFFIXES = {"jpeg": "jpg", "png": "png", "bmp": "bmp", "tiff": "tif", "dicom": "dcm"}
