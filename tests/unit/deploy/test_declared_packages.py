"""Whatever the programs import is a package that they ask for themselves, not one that another happens to bring."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.cluster import REPOSITORY

OURS = {"agent", "controller", "shared", "tests"}
# What may be imported where, beyond the packages of both programs.
EXTRAS = {"agent": ["agent"], "controller": ["controller"], "shared": ["tracing"]}


def imported(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(module=str(module)):
                    yield module


def providers(module: str) -> set[str]:
    """Names of the installed packages that hold the module; a namespace such as google has many."""
    top = module.partition(".")[0]
    found = {_plain(name) for name in metadata.packages_distributions().get(top, ())}
    if len(found) == 1:
        return found
    place = module.replace(".", "/")
    held = {f"{place}/__init__.py", f"{place}.py"}
    return {name for name in found if held & {str(file) for file in metadata.files(name) or ()}}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("program", EXTRAS)
def test_what_is_imported_is_asked_for(program: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(one for name in EXTRAS[program] for one in optional[name]),
    ]
    declared = {_plain(Requirement(text).name) for text in wanted}
    modules = {
        name
        for name in imported(REPOSITORY / program)
        if name.partition(".")[0] not in OURS | sys.stdlib_module_names
    }
    assert modules
    undeclared = {name: providers(name) for name in modules if not providers(name) & declared}
    assert not undeclared
