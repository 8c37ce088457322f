"""A 12-bit picture to the bytes of a file, in each of the ways that centres send radiographs.

The other direction is engine/decode. Both ends meet in the tests: what is written here must be read there.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Encoder = Callable[[NDArray[np.uint16]], bytes]
"""Greys `uint16[H, W]` of 12 bits, bone bright, to the bytes of a file. Equal pictures give equal bytes."""

_WHITE = 4095


def _eight_bit(picture: NDArray[np.uint16]) -> Image.Image:
    return Image.fromarray((picture >> 4).astype(np.uint8))


def _pillow(file_format: str, *, mode: str = "L", **options: Any) -> Encoder:
    def encode(picture: NDArray[np.uint16]) -> bytes:
        buffer = io.BytesIO()
        _eight_bit(picture).convert(mode).save(buffer, file_format, **options)
        return buffer.getvalue()

    return encode


def _dicom(picture: NDArray[np.uint16]) -> bytes:
    """An uncompressed 16-bit computed radiograph, as most centres keep them."""
    return _computed_radiograph(picture, "MONOCHROME2")


def _dicom_inverted(picture: NDArray[np.uint16]) -> bytes:
    """The same as the detector counts it: much light is a large number, and the file says that zero is white."""
    return _computed_radiograph(_WHITE - picture, "MONOCHROME1")


def _computed_radiograph(picture: NDArray[np.uint16], photometric: str) -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(int(picture.sum()))])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = picture.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = picture.astype("<u2", copy=False).tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _tiff(picture: NDArray[np.uint16]) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, photometric="minisblack")
    return buffer.getvalue()


FILE_FORMATS: dict[str, Encoder] = {
    "jpeg": _pillow("JPEG", quality=90),
    "png": _pillow("PNG", compress_level=1),
    "png_alpha": _pillow("PNG", mode="RGBA", compress_level=1),
    "bmp": _pillow("BMP"),
    "tiff": _tiff,
    "dicom": _dicom,
    "dicom_inverted": _dicom_inverted,
}
SUFFIXES = {
    "jpeg": "jpg",
    "png": "png",
    "png_alpha": "png",
    "bmp": "bmp",
    "tiff": "tif",
    "dicom": "dcm",
    "dicom_inverted": "dcm",
}
