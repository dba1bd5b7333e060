"""`doctor`: why copies would not come, found out before they are tried. Changes nothing."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from agent.cli.doctor import folder, machine
from agent.cli.doctor.finding import Finding, Level, Tell, as_json, show
from agent.cli.outcome import Exit, put, say
from agent.node.settings import AgentSettings
from agent.node.tuning import budget_of, policy_of
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.transfer.budget import Budget
from shared.ops.settings import SettingsError, load

# Their failure means that the folder cannot be used, whatever the source says.
_OF_THE_FOLDER = frozenset({"folder", "permissions", "disk", "space", "speed"})


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """uri: None = no source is looked at. root: None = the configuration's; without one no folder is looked at."""

    uri: str | None = None
    root: Path | None = None
    config: Path | None = None
    kubeconfig: Path | None = None
    credentials: Credentials = Credentials()  # noqa: RUF009 — frozen
    output: str = "text"


def run_doctor(options: DoctorOptions) -> Exit:
    """With a configuration as the agent that has it; without as `pull`."""
    settings = None
    if options.config is not None:
        try:
            settings = load(AgentSettings, file=options.config)
        except SettingsError as error:
            say(f"Error: wrong settings: {error}")
            return Exit.USAGE
    root = options.root or (settings.root if settings else None)
    if root is None and options.uri is None:
        say("Error: give a URI, or --root or --config for a folder")
        return Exit.USAGE
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if options.output == "text":
            show(finding)

    budget = budget_of(settings) if settings else Budget()
    usable = None
    if root is not None:
        usable = folder.look(
            root,
            gid=settings.gid if settings else None,
            min_free_percent=settings.min_free_percent if settings else 0,
            tell=tell,
        )
    machine.look(budget, tell)
    asyncio.run(_network(options, settings, usable, findings, tell))
    if options.output == "json":
        put(as_json(findings))
    failed = {one.check for one in findings if one.level is Level.FAIL}
    if not failed:
        return Exit.OK
    return Exit.STORE if failed & _OF_THE_FOLDER else Exit.STALLED


async def _network(
    options: DoctorOptions,
    settings: AgentSettings | None,
    usable: int | None,
    findings: list[Finding],
    tell: Tell,
) -> None:
    """usable: bytes of the disk that a model may take; None when it could not be asked."""
    if options.uri is not None:
        from agent.cli.doctor import source

        policy = (
            policy_of(settings)
            if settings
            else SourcePolicy.unrestricted(hf_endpoint=os.environ.get("HF_ENDPOINT"))
        )
        await source.look(options.uri, options.credentials, policy, usable, tell)
    from agent.cli.doctor import api

    clock_is_known = any(one.check == "clock" for one in findings)
    await api.look(settings, options.kubeconfig, clock_is_known=clock_is_known, tell=tell)
