"""Radiographs to test with, drawn and written on the spot: every builder is a pure function to bytes.

They show the same small "mouse": a bright body with a brighter spine on a dark, noisy ground. DICOM is written by
pydicom, which the decoder does not use, so that the two check each other. The bad ones are in bad_files.py.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"

NATIVE_SYNTAXES = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)
LOSSLESS_SYNTAXES = (RLE, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS)
LOSSY_SYNTAXES = (JPEG_BASELINE, JPEG_EXTENDED, JPEG_LS_NEAR, JPEG_2000)
ALL_SYNTAXES = (*NATIVE_SYNTAXES, *LOSSLESS_SYNTAXES, *LOSSY_SYNTAXES)


def mouse(height: int = 120, width: int = 200, *, bits: int = 8) -> NDArray[Any]:
    """A grey picture, `uint8[height, width]` or `uint16`, below `2 ** bits`; always the same one."""
    y, x = np.mgrid[0:height, 0:width]
    across, along = (y - 0.5 * height) / (0.32 * height), (x - 0.55 * width) / (0.4 * width)
    body = np.clip(1.3 - across**2 - along**2, 0, 1)
    spine = np.exp(-(((y - 0.45 * height) / (0.04 * height + 1)) ** 2)) * (body > 0) * (0.8 + 0.2 * np.sin(x))
    noise = np.random.default_rng(7).normal(0, 0.02, (height, width))
    levels = np.clip(0.08 + 0.45 * body + 0.4 * spine + noise, 0, 1) * (2**bits - 1)
    return levels.astype(np.uint8 if bits <= 8 else np.uint16)


def coloured(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`uint8[H, W, 3]` in which the three channels differ, so that a wrong luma shows."""
    return np.stack([grey, np.roll(grey, 5, axis=1) // 2 + 60, 255 - grey], axis=-1)


def save(picture: Image.Image, form: str, **options: Any) -> bytes:
    """What Pillow writes."""
    out = BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def jpeg(height: int = 120, width: int = 200, *, mode: str = "L", **options: Any) -> bytes:
    """A JPEG of the mouse; `mode` is L, RGB or CMYK, `options` are Pillow's."""
    grey = mouse(height, width)
    picture = Image.fromarray(grey if mode == "L" else coloured(grey))
    return save(picture.convert(mode), "JPEG", **{"quality": 90, **options})


def odd_jpeg(height: int = 48, width: int = 96) -> bytes:
    """The luma of `jpeg(height, width)`, with chroma a third as wide: TurboJPEG has no name for that.

    Pillow cannot write one. But a component may have a scan of its own, and those of grey files fit as they are.
    """
    luma, chroma = jpeg(height, width), jpeg(height, width // 3)
    frame, scan, chroma_scan = luma.index(b"\xff\xc0"), luma.index(b"\xff\xda"), chroma.index(b"\xff\xda")
    components = b"\x03" + b"\1\x31\0" + b"\2\x11\0" + b"\3\x11\0"
    head = (
        luma[: frame + 2] + struct.pack(">HBHH", 17, 8, height, width) + components + luma[frame + 13 : scan]
    )
    scans = [luma[scan:-2]] + [
        chroma[chroma_scan:-2].replace(b"\1\1\0", b"\1%c\0" % name, 1) for name in (2, 3)
    ]
    return head + b"".join(scans) + luma[-2:]


def png(height: int = 120, width: int = 200, *, mode: str = "L", **options: Any) -> bytes:
    """A PNG of the mouse; `mode` is one of Pillow's, I;16 for 16-bit grey."""
    if mode == "I;16":
        return save(Image.fromarray(mouse(height, width, bits=16)), "PNG", **options)
    grey = mouse(height, width)
    if mode in ("L", "1"):
        return save(Image.fromarray(grey).convert(mode), "PNG", **options)
    return save(Image.fromarray(coloured(grey)).convert(mode), "PNG", **options)


def png_of_rows(rows: list[bytes], shape: tuple[int, int], *, interlaced: bool = False) -> bytes:
    """An 8-bit grey PNG of filtered `rows`, which Pillow cannot write interlaced."""
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 8, 0, 0, 0, interlaced)
    body = zlib.compress(b"".join(rows))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bmp(height: int = 120, width: int = 200, *, mode: str = "L") -> bytes:
    """A BMP of the mouse: L has a palette of greys, RGB 24 bits."""
    grey = mouse(height, width)
    return save(Image.fromarray(grey if mode == "L" else coloured(grey)), "BMP")


def bmp_run_length(grey: NDArray[np.uint8]) -> bytes:
    """An 8-bit BMP with a grey palette in run-length encoding, every pixel a run of one."""
    height, width = grey.shape
    rows = [b"".join(b"\1" + bytes([level]) for level in row) + b"\0\0" for row in grey[::-1].tolist()]
    runs = b"".join(rows) + b"\0\1"
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    start = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(runs), 0, 0, start)
    return (
        head
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
        + palette
        + runs
    )


def tiff(pixels: NDArray[Any] | None = None, **options: Any) -> bytes:
    """A TIFF of the mouse, or of `pixels`; `options` are those of `tifffile.imwrite`."""
    import tifffile

    out = BytesIO()
    tifffile.imwrite(out, mouse(bits=16) if pixels is None else pixels, **options)
    return out.getvalue()


def dicom(
    height: int = 120,
    width: int = 200,
    *,
    syntax: str = EXPLICIT,
    bits: int = 16,
    stored: int | None = None,
    photometric: str = "MONOCHROME2",
    pixels: NDArray[Any] | None = None,
    signed: bool = False,
    frames: int = 1,
    **elements: Any,
) -> bytes:
    """A DICOM file of the mouse, or of `pixels` as `[H, W]` or `[H, W, samples]`.

    `frames` repeats the first frame reversed, so that reading the wrong one shows. `elements` are further
    attributes by keyword; None removes one.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate

    if pixels is None:
        pixels = mouse(height, width, bits=stored or bits).astype(f"u{max(bits, 8) // 8}")
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.PatientName = "mouse"
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    data.PhotometricInterpretation = photometric
    if data.SamplesPerPixel > 1:
        data.PlanarConfiguration = 0
    if frames > 1:
        data.NumberOfFrames = frames
    data.Rows, data.Columns = pixels.shape[:2]
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, stored or bits, (stored or bits) - 1
    data.PixelRepresentation = int(signed)
    shots = [pixels, *[np.ascontiguousarray(pixels[::-1, ::-1])] * (frames - 1)]
    if syntax in NATIVE_SYNTAXES:
        order = ">" if syntax == BIG_ENDIAN else "<"
        raw = b"".join(shot.astype(shot.dtype.newbyteorder(order)).tobytes() for shot in shots)
        data.PixelData = raw + b"\0" * (len(raw) % 2)
    else:
        data.PixelData = encapsulate([codestream(shot, syntax) for shot in shots])
        data["PixelData"].is_undefined_length = True
    data["PixelData"].VR = "OB" if bits <= 8 or syntax not in NATIVE_SYNTAXES else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    out = BytesIO()
    pydicom.dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


def codestream(pixels: NDArray[Any], syntax: str) -> bytes:
    """One frame as `syntax` compresses it."""
    import imagecodecs
    from pydicom.pixels.encoders.native import _encode_frame as encode_rle

    deep = pixels.dtype.itemsize > 1
    if syntax == RLE:
        return bytes(encode_rle(pixels.tobytes(), _RleRunner(pixels)))
    if syntax == JPEG_BASELINE:
        return save(Image.fromarray(pixels), "JPEG", quality=90)
    if syntax == JPEG_EXTENDED:
        return bytes(imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=12 if deep else 8))
    if syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        return bytes(imagecodecs.ljpeg_encode(pixels))
    if syntax in (JPEG_LS, JPEG_LS_NEAR):
        return bytes(imagecodecs.jpegls_encode(pixels, level=2 if syntax == JPEG_LS_NEAR else 0))
    if syntax == JPEG_2000_LOSSLESS:
        return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True))
    if syntax == JPEG_2000:
        return bytes(imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="j2k"))
    return bytes(imagecodecs.htj2k_encode(pixels, reversible=True))


class _RleRunner:
    """As much of pydicom's encoding runner as its RLE encoder looks at."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.rows, self.columns = pixels.shape[:2]
        self.samples_per_pixel = 1 if pixels.ndim == 2 else pixels.shape[2]
        self.bits_allocated = 8 * pixels.dtype.itemsize

    def get_option(self, name: str, default: Any = None) -> Any:
        return {"byteorder": "<"}.get(name, default)


def items(*streams: bytes) -> bytes:
    """Pixel Data that holds `streams`, a frame each."""
    from pydicom.encaps import encapsulate

    return bytes(encapsulate(list(streams)))


def without_meta(data: bytes) -> bytes:
    """A DICOM file stripped to its bare data set."""
    return data[data_set_start(data) :]


def data_set_start(data: bytes) -> int:
    """Behind group 2, whose length is its first element."""
    return 144 + int(struct.unpack_from("<I", data, 140)[0])
