"""The site: built strictly, without anything from other hosts, and its generated pages as the code says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.node.settings import AgentSettings
from agent.node.tuning import budget_of
from shared.ops import api_page
from tests.docs import settings_page
from tests.docs.blocks import PAGES
from tests.support.cluster import REPOSITORY

_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built; a warning (a link, an anchor, a page that is not in the menu) is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={folder}"],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_and_takes_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(path.relative_to(site) for path in site.rglob("*.html"))
    assert {Path("index.html"), Path("sources/s3.html"), Path("api.html")} <= set(pages)
    assert (site / "security.html").read_text().count("<h2") >= 2, "SECURITY.md is part of it"
    for page in pages:
        html = (site / page).read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"?([^\"\s>]+)", html)
        loaded += re.findall(
            r"<link[^>]*\brel=\"?(?:stylesheet|icon|preload)[^>]*href=\"?([^\"\s>]+)", html
        )
        assert [one for one in loaded if "//" in one] == []


def test_generated_pages_are_as_the_code_says() -> None:
    for name, page, how in (
        ("api.md", api_page.page(), "shared.ops.api_page"),
        ("settings.md", settings_page.page(), "tests.docs.settings_page"),
    ):
        assert (REPOSITORY / "docs" / name).read_text() == page, f"run python -m {how}"


def test_the_page_of_settings_names_what_a_running_agent_takes_up() -> None:
    usual = AgentSettings()
    changed = {
        name
        for name in AgentSettings.model_fields
        if budget_of(usual) != budget_of(usual.model_copy(update={name: 7}))
    }
    assert {*settings_page.LIVE} == {*changed, "log_level"}


def test_the_tests_that_pages_name_exist() -> None:
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    exist = set(re.findall(r"^ *(?:async )?def (test_\w+)", tests, re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / page).read_text()))
        assert named <= exist, page


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_to_files_or_are_well_formed(page: str) -> None:
    """The site's own links and anchors are mkdocs' matter; pages of other hosts are not asked."""
    path = REPOSITORY / page
    for link in _LINK.findall(re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)):
        if "://" in link:
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert "." in (parts.hostname or ""), link
        elif not link.startswith("#"):
            assert (path.parent / link.partition("#")[0]).exists(), link
