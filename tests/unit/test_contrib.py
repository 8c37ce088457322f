"""What others are to copy parses, and calls mxbatch as it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from mxbatch.engine.cli import app

ROOT = Path(__file__).parents[2]
CONTRIB = ROOT / "contrib"
DOCKERFILE = ROOT / "Dockerfile"
FILES = sorted(path for path in CONTRIB.rglob("*") if path.is_file())


def known_options() -> set[str]:
    """Every option of `mxbatch score`, as it is typed."""
    [command] = [info for info in app.registered_commands if info.callback.__name__ == "score"]
    names = command.callback.__annotations__ if command.callback else {}
    return {f"--{name.replace('_', '-')}" for name in names}


@pytest.mark.parametrize("path", [*FILES, DOCKERFILE], ids=lambda path: path.name)
def test_the_options_given_to_mxbatch_score_exist(path: Path) -> None:
    text = path.read_text("utf-8").replace("\\\n", " ")
    commands = [line.partition("mxbatch score")[2] for line in text.splitlines() if "mxbatch score" in line]
    given = {option for command in commands for option in re.findall(r"(?<!\S)--[a-z-]+", command)}
    assert given <= known_options()


def test_the_image_is_built_with_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"EXTRAS=([\w,-]+)", DOCKERFILE.read_text("utf-8"))
    assert len(named) == 2
    assert {extra for extras in named for extra in extras.split(",")} <= set(project["optional-dependencies"])


def test_every_file_but_the_timer_calls_mxbatch_score() -> None:
    silent = {path.name for path in FILES if "mxbatch score" not in path.read_text("utf-8")}
    assert silent == {"mxbatch.timer"}


def test_the_slurm_script_is_a_shell_script_that_slurm_warns() -> None:
    script = CONTRIB / "slurm" / "mxbatch.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text("utf-8")
    seconds = re.search(r"--signal=B:USR1@(\d+)", text)
    grace = re.search(r"--grace (\d+)", text)
    assert seconds
    assert grace
    assert int(grace[1]) < int(seconds[1])
    assert "trap warn USR1" in text


def test_the_service_leaves_the_run_time_for_its_grace() -> None:
    text = (CONTRIB / "systemd" / "mxbatch.service").read_text("utf-8")
    values = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    grace = re.search(r"--grace (\d+)", values["ExecStart"])
    assert grace
    assert int(grace[1]) < int(values["TimeoutStopSec"])
    assert values["Type"] != "oneshot", "RuntimeMaxSec= would have no effect"
    assert values["SuccessExitStatus"].split() == ["1", "130"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize("name", ["mxbatch.service", "mxbatch.timer"])
def test_systemd_knows_every_line_of_its_units(name: str, tmp_path: Path) -> None:
    """With a program in place of mxbatch, which is not installed where the unit says."""
    for unit in (CONTRIB / "systemd").iterdir():
        text = unit.read_text("utf-8").replace("/opt/mxbatch/bin/mxbatch", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "mxbatch" in line]
    assert complaints == []


def test_the_manifest_is_a_ray_job_whose_cluster_asks_for_a_token() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with ray")
    job = yaml.safe_load((CONTRIB / "kubernetes" / "rayjob.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    head = cluster["headGroupSpec"]["template"]["spec"]
    [group] = cluster["workerGroupSpecs"]
    for pod in (head, group["template"]["spec"]):
        [container] = pod["containers"]
        mounted = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
        assert mounted == {"/archive": True, "/models": True, "/out": False, "/cache": False}
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
