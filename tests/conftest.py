"""What every test may use; fixtures of one kind of test stand in that folder's own conftest."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real control plane with `deploy/` applied; shared by all tests, so each uses names of its own."""
    with ControlPlane(tmp_path_factory.mktemp("controlplane")) as running:
        running.apply_deploy()
        yield running


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be skipped: what is promised is run, or the run fails."""
    if os.environ.get("CI") != "true":
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    left_out = [
        report.nodeid
        for outcome in ("skipped", "xfailed")
        for report in (reporter.stats.get(outcome, ()) if reporter is not None else ())
    ]
    if left_out and reporter is not None and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"not run, although CI runs everything: {', '.join(left_out)}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for one test's roots, logs and configuration."""
    return tmp_path
