"""What PNG and BMP share: the grey plane of a picture that Pillow has opened.

The readers open Pillow's classes directly and not through `Image.open`: that names the one format that may
read these bytes, and leaves the cap on pixels to `Limits` and not to a second, process-wide one.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from mxbatch.engine.decode.plane import Plane, channels_of

_DEEP = ("I;16", "I;16B", "I", "F")


def grey_plane(picture: Image.Image) -> Plane:
    """Decode `picture`: deep grey as it is, everything else as 8-bit luma, alpha dropped and not blended."""
    picture.load()
    picture.info.pop(
        "transparency", None
    )  # else Pillow warns that converting drops it, which is what we want
    grey = picture if picture.mode in _DEEP else picture.convert("L")
    return Plane(channels_of([np.asarray(grey)]), picture.width, picture.height)
