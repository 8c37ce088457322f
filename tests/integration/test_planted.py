"""Ten bad radiographs among good ones: each in quarantine with its own code, and nothing else harmed."""

from __future__ import annotations

from pathlib import Path

from bad_files import PLANTED, PLANTED_CODES
from conftest import Run
from corpus import jpeg

import mxbatch as front_door
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import CODES

DV, LV = "IMPC_XRY_034_001", "IMPC_XRY_048_001"
WITHOUT_BYTES = {"folder.jpg": "MX-A102", "dangling.jpg": "MX-A103"}


def plant(root: Path) -> dict[str, str]:
    """A mouse for each bad file, the bad one as its lateral view beside a good dorsoventral one. File -> code."""
    codes = {**PLANTED_CODES, **WITHOUT_BYTES}
    rows = [
        "full_resolution_file_path,phenotyping_center,pipeline_stable_id,procedure_stable_id,parameter_stable_id,external_sample_id"
    ]
    for number, name in enumerate(codes):
        for parameter, file in ((DV, f"{number}.jpg"), (LV, name)):
            path = Path("UC Davis", "UCD_001", "IMPC_XRY_001", parameter, file)
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            rows.append(f"{path.as_posix()},{','.join(path.parts[:4])},mouse-{number}")
            if file == "folder.jpg":
                (root / path).mkdir()
            elif file == "dangling.jpg":
                (root / path).symlink_to("no-such-radiograph.jpg")
            else:
                (root / path).write_bytes(PLANTED[file]() if file in PLANTED else jpeg(200, 150))
    (root / "impc_images.csv").write_text("\n".join(rows) + "\n")
    return codes


def test_ten_bad_files_end_in_quarantine_each_with_its_own_code(
    mxbatch: Run, small_bundle: Bundle, tmp_path: Path
) -> None:
    codes = plant(tmp_path / "archive")
    assert len(codes) == len(set(codes.values())) == 10
    done = mxbatch("score", tmp_path / "archive", "--model", small_bundle.path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    rows = front_door.read_quarantine(tmp_path / "mxbatch-out").to_pylist()
    assert {Path(row["path"]).name: row["code"] for row in rows} == codes
    for row in rows:
        assert row["name"] == CODES[row["code"]].name
        assert row["reason"]
    calls = front_door.read_calls(tmp_path / "mxbatch-out").to_pylist()
    assert [row["views_used"] for row in calls] == [["dv"]] * 10
    assert {row["flags"][0] for row in calls} == {"radiograph_quarantined"}
    again = mxbatch("score", tmp_path / "archive", "--model", small_bundle.path)
    assert again.returncode == 0
    assert again.stdout.startswith("nothing new")


def test_a_mended_file_is_scored_the_next_time_and_leaves_the_quarantine(
    mxbatch: Run, small_bundle: Bundle, tmp_path: Path
) -> None:
    plant(tmp_path / "archive")
    command = ("score", tmp_path / "archive", "--model", small_bundle.path)
    assert mxbatch(*command).returncode == 1
    next((tmp_path / "archive").rglob("truncated.jpg")).write_bytes(jpeg(200, 150))
    done = mxbatch(*command)
    assert done.returncode == 0, done.stderr
    assert front_door.read_quarantine(tmp_path / "mxbatch-out").num_rows == 9
    newest = {
        row["specimen_id"]: row["views_used"]
        for row in front_door.read_calls(tmp_path / "mxbatch-out").to_pylist()
    }
    assert newest["mouse-0"] == ["dv", "lv"]


def test_an_archive_of_nothing_but_bad_files_has_no_calls_and_loses_nobody(
    mxbatch: Run, small_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.jpg").write_bytes(PLANTED["truncated.jpg"]())
    done = mxbatch("score", tmp_path / "archive", "--model", small_bundle.path, "--view", "dv")
    assert done.returncode == 1, done.stderr
    assert "1 specimen wholly in quarantine" in done.stdout
    assert front_door.read_calls(tmp_path / "mxbatch-out").num_rows == 0
