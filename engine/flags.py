"""What can stand in the column `flags` of a specimen's calls."""

from __future__ import annotations

FLAGS = {
    "untrained_model": "the model has seen no data: the calls mean nothing",
    "phantom_model": "the model was trained on drawn radiographs: the calls are not for science",
    "radiograph_quarantined": "at least one radiograph of the specimen could not be used",
    "duplicate_radiograph": "the same bytes came twice for one view, and count once",
    "radiographs_left_out": "more radiographs than the model takes; the views are kept, repeats left out",
    "view_unknown": "a radiograph without a view was used",
    "view_not_in_model": "a radiograph shows a view that the model does not know, and was left out",
}
