"""A walk over folders: every file once, nothing raised but for the root, no loop without an end."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxbatch.engine.archive.scan import Entry, check_root, scan
from mxbatch.engine.errors import EnvironmentFault


def plant(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * len(path))
    return root


def codes(root: Path) -> dict[str, str | None]:
    return {entry.path: entry.code for entry in scan(root).entries}


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
TREES = st.recursive(
    st.dictionaries(NAMES, st.none(), max_size=4),
    lambda inner: st.dictionaries(NAMES, st.none() | inner, max_size=4),
    max_leaves=8,
)


def grow(folder: Path, tree: dict[str, dict | None], expected: set[str], prefix: str = "") -> None:
    for name, inner in tree.items():
        if name in (".", ".."):
            continue
        if inner is None:
            (folder / name).touch()
            if not any(part.startswith(".") for part in f"{prefix}{name}".split("/")):
                expected.add(f"{prefix}{name}")
        else:
            (folder / name).mkdir()
            grow(folder / name, inner, expected, f"{prefix}{name}/")


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_every_file_of_any_tree_is_one_entry_and_hidden_ones_are_none(tree: dict[str, dict | None]) -> None:
    with tempfile.TemporaryDirectory() as root:
        expected: set[str] = set()
        grow(Path(root), tree, expected)
        assert sorted(entry.path for entry in scan(Path(root)).entries) == sorted(expected)


def test_an_entry_knows_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "a/b.jpg", ns=(1, 1_700_000_000_123_456_789))
    assert scan(tmp_path).entries == [Entry("a", "b.jpg", 5, 1_700_000_000_123_456_789)]


def test_the_order_is_that_of_the_names(tmp_path: Path) -> None:
    plant(tmp_path, "b/2", "b/1", "a/9", "c", "a/x/0")
    assert [entry.path for entry in scan(tmp_path).entries] == ["c", "a/9", "a/x/0", "b/1", "b/2"]


def test_what_is_not_a_file_has_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "good.jpg", "x.JPG/inside.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "through.jpg").symlink_to("good.jpg/below")
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        assert codes(tmp_path) == {
            "dangling.jpg": "MX-A103",
            "good.jpg": None,
            "pipe.jpg": "MX-A102",
            "self.jpg": "MX-A103",
            "socket.jpg": "MX-A102",
            "through.jpg": "MX-A103",
            "x.JPG": "MX-A102",
        }


def test_a_name_that_is_not_utf8_is_shown_escaped(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/d\xe9")
    for name in (b"a\xff.jpg", b"d\xe9/b.jpg", "é.jpg".encode()):
        open(os.fsencode(tmp_path) + b"/" + name, "wb").close()
    assert codes(tmp_path) == {"a\\xff.jpg": "MX-A111", "d\\xe9/b.jpg": "MX-A111", "é.jpg": None}


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    listing: Callable[..., object] = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_may_not_be_listed_is_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "open/a.jpg", "deep/closed/b.jpg")
    refuse(monkeypatch, tmp_path / "deep/closed")
    assert codes(tmp_path) == {"open/a.jpg": None, "deep/closed": "MX-A110"}


def test_links_are_followed_but_no_folder_is_read_twice(tmp_path: Path) -> None:
    archive, store = plant(tmp_path / "archive", "dr_15/a.jpg"), plant(tmp_path / "store", "b.jpg")
    (archive / "a_current").symlink_to("dr_15")  # sorts before the folder's real name
    (archive / "dr_15/loop").symlink_to("..")
    (archive / "dr_15/up").symlink_to(tmp_path)
    (archive / "elsewhere").symlink_to(store)
    (archive / "again").symlink_to(store)
    (archive / "dr_15/c.jpg").symlink_to(store / "b.jpg")
    found = scan(archive)
    assert [entry.path for entry in found.entries] == ["dr_15/a.jpg", "dr_15/c.jpg", "again/b.jpg"]
    assert found.notes == ("4 links lead to folders above or already read: not followed",)


def test_own_output_and_models_are_passed_over(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "a.jpg",
        "out/runs/1/run.json",
        "out/calls/x",
        "out/report.html",
        "m/bundle.toml",
        "m/golden.npz",
    )
    found = scan(tmp_path)
    assert [entry.path for entry in found.entries] == ["a.jpg"]
    assert found.notes == tuple(
        f"'{name}' is mxbatch's own output or model: not read" for name in ("m", "out")
    )


OUTPUTS = {
    "whole": [
        "runs/.lock",
        "runs/1/plan.parquet",
        "runs/1/run.json",
        "calls/x",
        "quarantine/y",
        "report.html",
    ],
    "killed while it planned": ["runs/.lock", "runs/1/plan.parquet"],
    "killed before its first part": ["runs/.lock", "runs/1/plan.parquet", "runs/1/run.json"],
    "killed within its first part": ["runs/.lock", "runs/1/plan.parquet", "runs/1/run.json", "quarantine/y"],
    "copied without hidden files": ["runs/1/run.json", "calls/x", "report.html"],
}


@pytest.mark.parametrize("files", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_an_output_is_known_by_its_runs_however_far_it_came(tmp_path: Path, files: list[str]) -> None:
    plant(tmp_path, "a.jpg", *(f"deep/out/{file}" for file in files))
    found = scan(tmp_path)
    assert [entry.path for entry in found.entries] == ["a.jpg"]
    assert found.notes == ("'deep/out' is mxbatch's own output or model: not read",)


@pytest.mark.parametrize("files", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_an_output_in_the_root_hides_nothing_else(tmp_path: Path, files: list[str]) -> None:
    plant(tmp_path, "a.jpg", "more/b.jpg", *files)
    assert set(codes(tmp_path)) == {"a.jpg", "more/b.jpg"}


@pytest.mark.parametrize("root", ["", "mice/"])
def test_folders_that_only_share_the_names_of_an_output_are_read(tmp_path: Path, root: str) -> None:
    files = {f"{root}runs/1/a.jpg", f"{root}calls/b.jpg", f"{root}quarantine/c.jpg", f"{root}report.html"}
    assert set(codes(plant(tmp_path, *files))) == files


def test_folders_can_be_left_out_by_their_own_and_their_parents_name(tmp_path: Path) -> None:
    plant(tmp_path, "a/skip/1.jpg", "b/skip/2.jpg")
    found = scan(tmp_path, leave_out=lambda parent, name: (parent, name) == ("a", "skip"))
    assert [entry.path for entry in found.entries] == ["b/skip/2.jpg"]
    assert found.notes == ("1 folders of other procedures (skip): not read",)


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "file")
    for name in ("nowhere", "file"):
        with pytest.raises(EnvironmentFault, match="MX-E001"):
            check_root(tmp_path / name)


def test_a_root_that_may_not_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, tmp_path)
    for read in (check_root, scan):
        with pytest.raises(EnvironmentFault, match="MX-E003"):
            read(tmp_path)
