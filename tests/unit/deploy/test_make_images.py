"""`make images` tells whichever engine is there to make the same image of the same commit each time."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_all_times_are_the_commits(engine: str, tmp_path: Path) -> None:
    stand_in = tmp_path / engine
    stand_in.write_text('#!/bin/sh\necho "$SOURCE_DATE_EPOCH $*" >>"$0.log"\n')
    stand_in.chmod(0o755)
    for name in ("bash", "git", "make"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    subprocess.run(
        [tmp_path / "make", "--no-print-directory", "images", "BASE=registry.example/python:3"],
        cwd=REPOSITORY,
        env={"HOME": os.environ.get("HOME", "/"), "PATH": str(tmp_path)},
        check=True,
        timeout=30,
    )
    git = ["git", "log", "-1", "--format=%ct %H"]
    made = subprocess.run(
        git, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=30
    )
    time, commit = made.stdout.split()
    calls = Path(f"{stand_in}.log").read_text().splitlines()
    assert [call.rpartition("--file=")[2].split()[0] for call in calls] == [
        "Dockerfile.agent",
        "Dockerfile.controller",
    ]
    how = "--build-arg=SOURCE_DATE_EPOCH" if engine == "docker" else f"--timestamp={time}"
    for call in calls:
        assert call.startswith(f"{time} build ")
        assert {
            how,
            f"--build-arg=REVISION={commit}",
            "--build-arg=BASE=registry.example/python:3",
        } <= {*call.split()}
