"""The failure investigation of the documentation, played again."""

from pathlib import Path

import pytest

from tests.docs.investigation import PAGE, Site, play
from tests.support.controlplane import ControlPlane

pytestmark = pytest.mark.timeout(400)


def test_it_goes_as_the_page_tells(control_plane: ControlPlane, folder: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    with Site(control_plane, folder) as site:
        for step, _ in play(site):
            told = page.partition(f"{step.says}\n\n```\n$ {step.command}\n")[2].partition("```")[0]
            assert told, f"the page lacks {step.command}: run python -m tests.docs.investigation"
            assert step.lacking(told) == []
