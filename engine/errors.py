"""Everything that can go wrong, in one tree, and every code a user can meet, in one table.

    MxbatchError
     ├─ UsageError          exit 2   an option, a mapping or a recipe says something impossible
     ├─ EnvironmentFault    exit 3   archive, disk, driver or model cannot be used as they are
     ├─ OutputLocked        exit 4   another run holds the output
     ├─ Interrupted         exit 130 somebody stopped the run
     └─ RadiographError     no exit  one radiograph cannot be used: it becomes a row of the quarantine

An error is one line: what happened, to which file, why, and what to do. `CODES` holds what can be said in
advance, so that `mxbatch explain MX-D101` and docs/errors.md never drift from the code.

Codes: `MX-A1nn` a radiograph as the index sees it · `MX-Dfkk` as the decoder sees it, f = family of formats
(0 any, 1 JPEG, 2 PNG, 3 BMP, 4 TIFF, 5 DICOM) and kk = kind · `MX-U` usage · `MX-E` environment · `MX-M` model ·
`MX-T` training.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import ClassVar

FAMILIES = {1: "JPEG", 2: "PNG", 3: "BMP", 4: "TIFF", 5: "DICOM"}


@dataclass(frozen=True, slots=True)
class Code:
    """One line of the table of codes."""

    code: str
    name: str
    meaning: str
    fix: str
    transient: bool = False
    """True when the next run should try again although neither the file nor the model changed."""


def _decode_codes() -> list[Code]:
    """The kinds of failure that every family of formats shares, one code per family and kind."""
    kinds = [
        ("01", "TRUNCATED", "the {f} file ends before its image does", "copy the file again from its source"),
        ("02", "CORRUPT", "the {f} decoder refuses the file", "copy the file again, or export it anew"),
        (
            "03",
            "TOO_MANY_PIXELS",
            "the {f} header claims more pixels than allowed",
            "if the size is real, raise --max-megapixels",
        ),
        (
            "04",
            "INFLATES_TOO_FAR",
            "the {f} file expands to more bytes than allowed",
            "do not trust the file; export it uncompressed if it is real",
        ),
        (
            "05",
            "UNSUPPORTED",
            "a valid {f} file of a kind that mxbatch does not read",
            "convert it to a kind that `mxbatch info` lists",
        ),
        (
            "06",
            "NO_PIXELS",
            "the {f} file holds no image",
            "remove it from the index, or send the image itself",
        ),
        ("07", "BLANK", "the {f} image has no contrast at all", "take the radiograph again"),
    ]
    return [
        Code(f"MX-D{digit}{kind}", f"{family}_{name}", meaning.format(f=family), fix)
        for digit, family in FAMILIES.items()
        for kind, name, meaning, fix in kinds
    ]


_TABLE = [
    Code("MX-A101", "FILE_MISSING", "the index names a file that the archive does not hold", "copy the file, or drop its row"),
    Code("MX-A102", "NOT_A_FILE", "a folder, pipe or socket stands where a radiograph should be", "move it out of the archive"),
    Code("MX-A103", "DANGLING_LINK", "a link whose target does not exist", "restore the target, or remove the link"),
    Code("MX-A104", "NOT_IN_INDEX", "the index beside the archive does not name this file", "add a row for it to the index"),
    Code("MX-A105", "UNKNOWN_PARAMETER", "the parameter's folder is not one of the X-ray image parameters", "move the file, or name its view in an index"),
    Code("MX-A106", "UNKNOWN_VIEW", "the index gives a view that neither IMPC nor the model knows", "map it: --map-view THEIRS=OURS"),
    Code("MX-A107", "CONFLICT", "the index gives one file to two specimens or two views", "keep the right row of the index"),
    Code("MX-A108", "UNPLACED", "the file stands outside the archive's layout", "move it to centre/pipeline/procedure/parameter, or add an index"),
    Code("MX-A109", "BAD_INDEX_ROW", "a row of the index has no usable file name", "mend the row"),
    Code("MX-A110", "FOLDER_UNREADABLE", "a folder that may not be listed", "give the user that runs mxbatch read access", transient=True),
    Code("MX-A111", "NAME_NOT_UTF8", "the file's name is not UTF-8, so no table can hold it", "rename the file"),
    Code("MX-D001", "UNREADABLE", "the file could not be read now: permissions, the disk, or too little memory", "check permissions, the disk or mount, and free memory", transient=True),
    Code("MX-D002", "VANISHED", "the file was there at planning and is gone", "nothing, if it was removed on purpose", transient=True),
    Code("MX-D003", "EMPTY", "the file has zero bytes", "copy the file again from its source"),
    Code("MX-D004", "TEXT", "the file is text, not an image (a saved error page, a pointer, a table)", "fetch the image itself"),
    Code("MX-D005", "UNKNOWN_FORMAT", "the first bytes belong to no format that mxbatch reads", "convert it to a format that `mxbatch info` lists"),
    Code("MX-D006", "FILE_TOO_LARGE", "the file has more bytes than any radiograph", "if it is real, convert it"),
    Code("MX-D090", "WORKER_CRASH", "the worker died each time it came to this radiograph", "convert the file; please report it with its checksum"),
    *_decode_codes(),
    Code("MX-U001", "BAD_OPTION", "an option has a value that cannot be", "see `mxbatch COMMAND --help`"),
    Code("MX-U002", "UNKNOWN_VIEW_NAME", "a view's name that neither IMPC nor the model knows", "map it: --map-view THEIRS=OURS, or to `skip`"),
    Code("MX-U003", "BAD_INDEX", "the index beside the archive cannot be read as one", "name its columns: --column specimen=THEIRS"),
    Code("MX-U004", "NO_MODEL", "there is no model at that place", "name a bundle's folder; without --model the reference is used, which learned from phantoms"),
    Code("MX-U005", "NOT_AN_OUTPUT", "the folder holds no run of mxbatch", "name the folder given to --out"),
    Code("MX-U006", "BAD_TAXONOMY", "the taxonomy file breaks a rule of taxonomies", "mend it as the message says"),
    Code("MX-U007", "BAD_RECIPE", "the recipe asks for something that cannot be built", "mend it as the message says"),
    Code("MX-U008", "OTHER_ARCHIVE", "the output holds the runs of another archive", "name another --out; if the archive moved, link its old path to the new"),
    Code("MX-E001", "ARCHIVE_MISSING", "there is no archive at that place", "check the path and the mount"),
    Code("MX-E002", "ARCHIVE_EMPTY", "the archive holds no radiograph", "check the path and the mount"),
    Code("MX-E003", "ARCHIVE_UNREADABLE", "the archive's folder may not be read", "give the user that runs mxbatch read access"),
    Code("MX-E004", "NO_SPACE", "the disk of the output is full", "free space and run the same command again: it resumes"),
    Code("MX-E005", "OUTPUT_UNWRITABLE", "the output folder cannot be written", "choose another --out, or mend its permissions"),
    Code("MX-E006", "WORKERS_FAILED", "the workers cannot be started, or not be kept", "see the reason given; `mxbatch doctor` tells more"),
    Code("MX-E007", "ROWS_LOST", "the run cannot show a row for every specimen of its plan", "run the same command again; report it if it stays"),
    Code("MX-E008", "PLAN_DAMAGED", "the record of an unfinished run cannot be read", "remove its folder under runs/; committed rows stay"),
    Code("MX-E009", "PART_DAMAGED", "a committed file of the output cannot be read", "remove that file: the next run scores its specimens again"),
    Code("MX-E010", "ARCHIVE_SHRANK", "the archive has lost most of its radiographs since the last run", "check the mount; if it is meant, --allow-shrink"),
    Code("MX-E011", "INTERNAL", "something that should not happen", "give the command again with --debug, and report what it says"),
    Code("MX-E012", "CACHE_UNSAFE", "others can write to the folder of compiled engines, which hold native code", "chmod 0700, or set XDG_CACHE_HOME to a folder of your own"),
    Code("MX-E013", "OUTPUT_NOT_SHARED", "a worker's machine does not see the output folder", "put --out on a file system that every machine mounts at the same path"),
    Code("MX-E014", "RAY_UNREACHABLE", "the Ray cluster cannot be used", "see the reason given, and docs/ray.md"),
    Code("MX-E015", "RAY_INSECURE", "the Ray cluster lets everybody in who can reach it, and run what they like", "start it with RAY_AUTH_MODE=token; or --allow-insecure-ray in a network that you trust"),
    Code("MX-E016", "OUTPUT_UNREACHABLE", "the object store of the output does not answer, or refuses", "check the network, the bucket and AWS_* in the environment, and run the same command again: it resumes"),
    Code("MX-M001", "BUNDLE_DAMAGED", "a file of the bundle differs from its checksum", "copy the bundle again from its source"),
    Code("MX-M002", "BUNDLE_INCOMPLETE", "a file of the bundle is missing or cannot be read", "copy the bundle again from its source"),
    Code("MX-M003", "GOLDEN_MISMATCH", "this machine's numbers differ from the bundle's golden outputs", "see `mxbatch doctor`; do not trust this runtime"),
    Code("MX-M004", "BUNDLE_FORMAT", "the bundle was written by another version of mxbatch", "upgrade mxbatch, or write the bundle again"),
    Code("MX-M005", "ENGINE_CORRUPT", "a compiled engine in the cache is damaged, and building it again did not help", "empty the engine cache, or choose another --runtime"),
    Code("MX-M006", "RUNTIME_UNUSABLE", "the runtime does not work on this machine", "see `mxbatch doctor`, or --runtime auto"),
    Code("MX-M007", "GPU_DECODE_UNUSABLE", "radiographs cannot be decoded on this machine's GPU", "see `mxbatch doctor`, or --decode cpu"),
    Code("MX-T001", "NO_LABELS", "the archive says of no specimen whether it is abnormal", "put IMPC's `experiment` table beside it as experiment.csv, or name it: --scores FILE"),
    Code("MX-T002", "NO_POSITIVE", "a class has no abnormal specimen to learn from or to measure on", "bring more specimens, or a taxonomy without the class"),
    Code("MX-T003", "COLONY_IN_BOTH", "an animal line stands on two sides of a split", "keep every colony on one side"),
    Code("MX-T004", "LOSS_NOT_FINITE", "training diverged: the loss is no number any more", "lower the learning rate, or train in float32"),
    Code("MX-T005", "OTHER_TRAINING", "the folder holds the checkpoint of another recipe or other data", "name another folder, or remove this one"),
    Code("MX-L001", "OUTPUT_LOCKED", "another run holds the output", "wait for it, or choose another --out"),
    Code("MX-I001", "INTERRUPTED", "the run was stopped before its end", "run the same command again: it resumes"),
]  # fmt: skip

CODES: dict[str, Code] = {entry.code: entry for entry in _TABLE}


class MxbatchError(Exception):
    """Root of the tree. `str()` is the whole line that a user reads.

    `code` is a key of `CODES`; `what` says what happened in this case; `path` names the file it happened to;
    `fix` replaces the table's advice where the case allows a better one.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, code: str, what: str, *, path: object = None, fix: str | None = None) -> None:
        self.code, self.what, self.path = code, what, path
        self.fix = CODES[code].fix if fix is None else fix
        where = f"{path}: " if path is not None else ""
        stop = "" if what.endswith((".", "?", "!")) else "."
        super().__init__(one_line(f"{code} {where}{what}{stop} {self.fix[:1].upper()}{self.fix[1:]}."))

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders; the default would call `__init__` with the finished line alone."""
        return _rebuild, (type(self), self.code, self.what, self.path, self.fix)


def _rebuild(kind: type[MxbatchError], code: str, what: str, path: object, fix: str) -> MxbatchError:
    return kind(code, what, path=path, fix=fix)


class UsageError(MxbatchError):
    """What was asked for cannot be: an option, an index, a taxonomy or a recipe."""

    exit_code = 2


class EnvironmentFault(MxbatchError):
    """What was asked for is fine, but the machine, the archive or the bundle does not allow it now."""

    exit_code = 3


class OutputLocked(MxbatchError):
    """Another run holds the output folder."""

    exit_code = 4


class Interrupted(MxbatchError):
    """Somebody stopped the run. What is committed stays; the same command goes on from there."""

    exit_code = 130


class RadiographError(MxbatchError):
    """One radiograph cannot be used. Never leaves a run: it becomes a row of the quarantine."""


def one_line(text: str) -> str:
    """`text` with line breaks and control characters made visible, so that data cannot forge log lines."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def from_os_error(error: OSError, path: object) -> EnvironmentFault:
    """Translate an operating system's refusal to write the output at the border of the ledger."""
    code = "MX-E004" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "MX-E005"
    return EnvironmentFault(code, error.strerror or str(error), path=error.filename or path)
