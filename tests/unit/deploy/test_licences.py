"""What the images hold may be passed on: permissive licences only."""

import re
import subprocess
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.support.cluster import REPOSITORY

_PERMISSIVE = re.compile(
    r"Apache|MIT|BSD|ISC|PSF|Python Software Foundation|Unlicense|MPL|Mozilla|0BSD|Zope",
    re.IGNORECASE,
)
_COPYLEFT = re.compile(r"\bA?GPL|General Public|LGPL", re.IGNORECASE)


def locked(extra: str) -> list[str]:
    """Names of the packages that an image gets."""
    command = [
        "uv",
        "export",
        "--frozen",
        "--no-default-groups",
        "--no-emit-project",
        "--no-hashes",
        "--quiet",
    ]
    done = subprocess.run(
        [*command, f"--extra={extra}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    wanted = [Requirement(line) for line in done.stdout.splitlines() if line[:1].isalnum()]
    return [one.name for one in wanted if one.marker is None or one.marker.evaluate()]


def licence(package: str) -> str:
    """As its metadata says, in whichever of the three ways."""
    found = metadata.metadata(package)
    classifiers = [c for c in found.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = [*(found.get_all("License-Expression") or []), *(found.get_all("License") or [])]
    return " ".join([*(text.partition("\n")[0] for text in stated), *classifiers])


@pytest.mark.parametrize("extra", ["agent", "controller", "tracing"])
def test_licences_are_permissive(extra: str) -> None:
    found = {package: licence(package) for package in locked(extra)}
    assert found
    assert {p: said for p, said in found.items() if not _PERMISSIVE.search(said)} == {}
    assert {p: said for p, said in found.items() if _COPYLEFT.search(said)} == {}
