"""A small file of every kind that can be read, for tests to damage, and the code under which one is refused."""

from __future__ import annotations

import corpus
import numpy as np

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.errors import CODES, RadiographError

CONTRACT, LIMITS = InputContract(size=64), Limits()

WHOLE = {
    "jpeg": corpus.jpeg(),
    "jpeg colour": corpus.jpeg(mode="RGB"),
    "jpeg progressive": corpus.jpeg(progressive=True),
    "jpeg scaled": corpus.jpeg(600, 700),
    "png": corpus.png(),
    "png palette": corpus.png(mode="P"),
    "png 16 bit": corpus.png(mode="I;16"),
    "bmp": corpus.bmp(),
    "bmp colour": corpus.bmp(mode="RGB"),
    "bmp run-length": corpus.bmp_run_length(corpus.mouse(40, 50)),
    "tiff": corpus.tiff(),
    **{
        f"tiff {name}": corpus.tiff(compression=name)
        for name in ("lzw", "zlib", "packbits", "zstd", "jpeg2000")
    },
    "tiff jpeg": corpus.tiff(corpus.mouse(), compression="jpeg"),
    "tiff tiles": corpus.tiff(tile=(32, 32)),
    **{
        f"dicom {syntax}": corpus.dicom(syntax=syntax, bits=8 if syntax == corpus.JPEG_BASELINE else 16)
        for syntax in corpus.ALL_SYNTAXES
        if syntax != corpus.JPEG_EXTENDED
    },
    "dicom 12 bit": corpus.dicom(syntax=corpus.JPEG_EXTENDED, stored=12),
    "dicom without meta": corpus.without_meta(corpus.dicom()),
}


def code_of(data, contract=CONTRACT, limits=LIMITS):
    """The code under which `data` are refused, or None where they decode."""
    try:
        decoded = decode(data, contract, limits)
    except RadiographError as error:
        return CODES[error.code].code
    assert (decoded.image.shape, decoded.image.dtype) == ((contract.size, contract.size), np.uint8)
    return None
