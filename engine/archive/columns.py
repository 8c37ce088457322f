"""Which column of somebody's table holds what: our fields, and the names that the world has for them.

Headers meet by letters and digits alone (`External Sample ID` is `external_sample_id`). A field's names come
in ranks: of a Solr dump's `external_sample_id` (the centre's own id) and `specimen_id` (a hash) the first
wins. Two headers of one rank are a question to the user, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mxbatch.engine.errors import UsageError

FIELDS: dict[str, tuple[str, ...]] = {
    "file": ("file filename filepath path image imagename imagefile imagepath radiograph",),
    "full_resolution_file_path": ("full_resolution_file_path",),
    "download_file_path": ("download_file_path dcc_url",),
    "checksum": ("checksum", "sha256 sha1"),
    "specimen_id": (
        "external_sample_id",
        "specimen specimen_id animal animal_id mouse mouse_id sample sample_id",
    ),
    "view": ("view position projection orientation",),
    "parameter": ("parameter_stable_id parameter_key", "parameter"),
    "centre": ("phenotyping_center phenotyping_centre", "centre center"),
    "procedure": ("procedure_stable_id procedure_key", "procedure"),
    "date_of_experiment": ("date_of_experiment", "date experiment_date"),
    "pipeline": ("pipeline_stable_id pipeline_key", "pipeline"),
    "colony_id": ("colony_id", "colony"),
    "gene_symbol": ("gene_symbol", "gene"),
    "allele_symbol": ("allele_symbol", "allele"),
    "zygosity": ("zygosity",),
    "sex": ("sex", "gender"),
    "group": ("biological_sample_group", "group"),
    "age_weeks": ("age_in_weeks age_weeks",),
    "metadata_group": ("metadata_group",),
}
"""Our fields, each with its ranks of blank-separated names."""

ALIASES = {"path": "file", "specimen": "specimen_id", "date": "date_of_experiment", "age": "age_weeks"}
"""Shorter names that `--column` takes too."""

_FILES = ("file", "full_resolution_file_path", "download_file_path", "checksum")
_MEANING = ("specimen_id", "view", "parameter")


def field_named(name: str) -> str:
    """The field that a user calls `name`, or `UsageError` (MX-U003) that lists the fields."""
    if (field := ALIASES.get(name, name)) in FIELDS:
        return field
    raise UsageError(
        "MX-U003",
        f"unknown column '{name}'",
        fix=f"name one of {', '.join(dict.fromkeys((*ALIASES, *FIELDS)))}",
    )


def find_columns(header: Sequence[str], mapping: Mapping[str, str], *, path: object) -> dict[str, int]:
    """Field -> position in `header`. `mapping` (field -> header) goes first; fields without a column are
    absent.

    Raises `UsageError` (MX-U003) when a mapped header is not there or when two fit equally.
    """
    plain = [_plain(name) for name in header]
    found: dict[str, int] = {}
    for field, ranks in FIELDS.items():
        if field in mapping:
            theirs = mapping[field]
            places = [i for i, name in enumerate(header) if name == theirs] or _places(plain, [theirs])
            if not places:
                raise UsageError("MX-U003", f"no column '{theirs}' among {_listed(header)}", path=path)
        else:
            places = next(filter(None, (_places(plain, rank.split()) for rank in ranks)), [])
        if len(places) > 1:
            rivals = " and ".join(f"'{header[i]}'" for i in places)
            raise UsageError(
                "MX-U003",
                f"{rivals} could each be the {field}",
                path=path,
                fix=f"choose: --column {field}={header[places[0]]}",
            )
        if places:
            found[field] = places[0]
    return found


def is_index(columns: Mapping[str, int]) -> bool:
    """True when the columns say which files there are, and something about them."""
    return any(field in columns for field in _FILES) and any(field in columns for field in _MEANING)


def not_an_index(header: Sequence[str], columns: Mapping[str, int], *, path: object) -> UsageError:
    """The error for a header of which `is_index` is false: what was found, and which mapping would help."""
    missing = []
    if not any(field in columns for field in _FILES):
        missing.append("file")
    if not any(field in columns for field in _MEANING):
        missing += ["specimen", "view"]
    return UsageError(
        "MX-U003",
        f"no column for the {' and the '.join(missing)} among {_listed(header)}",
        path=path,
        fix="name its columns: " + " ".join(f"--column {field}=THEIRS" for field in missing),
    )


def _listed(header: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in header[:40]) + (", ..." if len(header) > 40 else "")


def _places(plain: Sequence[str], names: Iterable[str]) -> list[int]:
    wanted = {_plain(name) for name in names}
    return [i for i, name in enumerate(plain) if name in wanted]


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
