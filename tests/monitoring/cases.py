"""What must alert, what must not, and what a person then reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Case:
    """series: values once a minute, in promtool's notation. quiet: minutes at which nothing alerts; fires: one at which one does.

    labels: of the alert, without its name and severity.
    """

    alert: str
    series: Mapping[str, str]
    quiet: tuple[int, ...]
    fires: int
    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)


_LEADER = 'leader_election_master_status{job="localmodel-controller", name="localmodel-controller", pod="%s"}'
_LAG = 'localmodel_event_loop_lag_seconds_bucket{job="localmodel-agent", node="a", le="%s"}'
_PASSES = 'controller_runtime_%s_total{job="localmodel-controller", controller="nodes"%s}'

CASES: Final = (
    Case(
        alert="LocalModelCopyFailing",
        series={
            'localmodel_agent_copies_failing{node="a", reason="AccessDenied"}': "0x4 2x60",
            # What passes by itself alerts nobody.
            'localmodel_agent_copies_failing{node="b", reason="SourceUnreachable"}': "0x4 1x12 0x60",
            'localmodel_agent_copies_failing{node="c", reason="AccessDenied"}': "0x60",
        },
        quiet=(4, 24),
        fires=26,
        labels={"node": "a", "reason": "AccessDenied"},
        summary="2 model copies on a fail: AccessDenied",
        description="They have failed for 15 minutes or more and are tried again by themselves. `kubectl localmodel status` names them.",
    ),
    Case(
        alert="LocalModelCopyFailing",
        series={
            # An agent that starts again remembers no failure until its first attempt ends.
            'localmodel_agent_copies_failing{node="a", pod="x", reason="DiskError"}': "0x4 1x3 0x3 1x3 stale",
            'localmodel_agent_copies_failing{node="a", pod="y", reason="DiskError"}': "_x16 0x3 1x60",
            # A failure now and then is none that lasts.
            'localmodel_agent_copies_failing{node="b", pod="x", reason="DiskError"}': "0x4 1x2 0x9 1x2 0x9 1x2 0x9",
            'localmodel_agent_copies_failing{node="c", pod="x", reason="DiskError"}': "0x4 1x14 0x20",
        },
        quiet=(5, 24),
        fires=26,
        labels={"node": "a", "reason": "DiskError"},
        summary="1 model copies on a fail: DiskError",
        description="They have failed for 15 minutes or more and are tried again by themselves. `kubectl localmodel status` names them.",
    ),
    Case(
        alert="LocalModelNoProgress",
        series={
            'localmodel_agent_no_progress_seconds{node="a", reason="Downloading"}': "0+60x60",
            # To verify a large model takes its time.
            'localmodel_agent_no_progress_seconds{node="b", reason="Verifying"}': "0+60x60",
            'localmodel_agent_no_progress_seconds{node="c", reason="Downloading"}': "0+60x10 0+60x10 0+60x10",
        },
        quiet=(15, 20),
        fires=21,
        labels={"node": "a", "reason": "Downloading"},
        summary="A model copy on a makes no progress (Downloading)",
        description="No byte has come and no step has ended for 21m 0s.",
    ),
    Case(
        alert="LocalModelNoProgress",
        series={'localmodel_agent_no_progress_seconds{node="b", reason="Verifying"}': "0+60x180"},
        quiet=(60, 120),
        fires=130,
        labels={"node": "b", "reason": "Verifying"},
        summary="A model copy on b makes no progress (Verifying)",
        description="No byte has come and no step has ended for 2h 10m 0s.",
    ),
    Case(
        alert="LocalModelContentMismatch",
        series={
            'localmodel_agent_verification_failures_total{node="a"}': "0x9 4x60",
            'localmodel_agent_verification_failures_total{node="b"}': "0x9 1x60",
        },
        quiet=(9, 75),
        fires=60,
        labels={"node": "a"},
        summary="Files that a fetches are not what their source states",
        description="4 times within an hour. A source, a proxy or the network between changes content.",
    ),
    Case(
        alert="LocalModelDamagedCopy",
        series={
            'localmodel_agent_damaged_copies_total{node="a"}': "0x9 1x90",
            'localmodel_agent_damaged_copies_total{node="b"}': "7x100",
        },
        quiet=(9, 80),
        fires=15,
        labels={"node": "a"},
        summary="A published model on a was found damaged",
        description="What is damaged is fetched again by itself. Somebody writes to the folder, or the disk has faults.",
    ),
    Case(
        alert="LocalModelNodeSilent",
        series={
            'localmodel_nodes{pod="x", agent="silent"}': "0x9 3x30",
            'localmodel_nodes{pod="y", agent="silent"}': "0x9 3x30",
            'localmodel_nodes{pod="x", agent="alive"}': "9x40",
        },
        quiet=(9, 13),
        fires=16,
        summary="The agents of 3 nodes are silent",
        description="Their copies do not count as available. `kubectl localmodel status` names them.",
    ),
    Case(
        alert="LocalModelAgentDown",
        series={
            'up{job="localmodel-agent", node="a", pod="old"}': "1x9 0x30",
            # The pod is replaced.
            'up{job="localmodel-agent", node="b", pod="old"}': "1x9 0x30",
            'up{job="localmodel-agent", node="b", pod="new"}': "_x12 1x30",
            'up{job="somebody-else", node="c"}': "0x40",
        },
        quiet=(9, 18),
        fires=22,
        labels={"node": "a"},
        summary="The agent on a does not answer Prometheus",
        description="Nothing is fetched or reported there while it is down; models that are there stay.",
    ),
    Case(
        alert="LocalModelStorageNotReady",
        series={
            'localmodel_agent_storage_ready{node="a"}': "1x9 0x30",
            'localmodel_agent_storage_ready{node="b"}': "0x5 1x40",
        },
        quiet=(9, 18),
        fires=21,
        labels={"node": "a"},
        summary="The cache folder of a cannot be used",
        description="The disk is not mounted, read-only, somebody else's, or does not answer.",
    ),
    Case(
        alert="LocalModelDiskNearlyFull",
        series={
            'localmodel_agent_disk_bytes{node="a", what="capacity"}': "1000x60",
            'localmodel_agent_disk_bytes{node="a", what="available"}': "500x9 60x60",
            'localmodel_agent_disk_bytes{node="b", what="capacity"}': "1000x60",
            'localmodel_agent_disk_bytes{node="b", what="available"}': "120x60",
        },
        quiet=(9, 38),
        fires=45,
        labels={"node": "a"},
        summary="The model disk of a is nearly full",
        description="Models may take 6% of it; what the agent leaves free (`min_free_percent`) is not counted.",
    ),
    Case(
        alert="LocalModelCapacityShort",
        series={
            'localmodel_unplaced_copies{pod="x", reason="NoSpace"}': "0x9 4x40",
            'localmodel_unplaced_copies{pod="x", reason="PathMismatch"}': "1x60",
            'localmodel_short_bytes{pod="x"}': "0x9 1649267441664x40",
        },
        quiet=(9, 23),
        fires=26,
        summary="4 model copies have no space on their nodes",
        description="1.5TiB would have to come free.",
    ),
    Case(
        alert="LocalModelControllerNotLeading",
        # Another replica takes over within a minute; later none does.
        series={_LEADER % "x": "1x9 0x40", _LEADER % "y": "0x10 1x10 0x30"},
        quiet=(10, 15, 24),
        fires=30,
        summary="No controller of the model cache leads",
        description="New caches are not placed and nothing is summed up. Agents go on with the work lists that they have.",
    ),
    Case(
        alert="LocalModelControllerNotLeading",
        # The leader of something else; then no replica answers at all.
        series={
            'leader_election_master_status{job="other", name="other"}': "1x60",
            _LEADER % "x": "1x9 stale",
        },
        quiet=(9, 14),
        fires=20,
        labels={"job": "localmodel-controller", "name": "localmodel-controller"},
        summary="No controller of the model cache leads",
        description="New caches are not placed and nothing is summed up. Agents go on with the work lists that they have.",
    ),
    Case(
        alert="LocalModelInstallationProblem",
        series={
            'localmodel_installation_problem{pod="x", reason="CRDsOutdated"}': "0x9 1x30",
            'localmodel_installation_problem{pod="y", reason="CRDsOutdated"}': "0x9 1x30",
            'localmodel_installation_problem{pod="x", reason="ConfigInvalid"}': "0x40",
        },
        quiet=(9, 18),
        fires=21,
        labels={"reason": "CRDsOutdated"},
        summary="The installation of the model cache has a problem: CRDsOutdated",
        description="The controller's log has the command that mends it.",
    ),
    Case(
        alert="LocalModelPassesFailing",
        series={
            _PASSES % ("reconcile_errors", ""): "0x19 0+8x60",
            _PASSES % ("reconcile", ', result="error"'): "0x19 0+8x60",
            _PASSES % ("reconcile", ', result="success"'): "0+10x19 200+2x60",
        },
        quiet=(19, 35),
        fires=60,
        labels={"job": "localmodel-controller", "controller": "nodes"},
        summary="Most passes of nodes in localmodel-controller fail",
        description="80% failed within 15 minutes; each is tried again.",
    ),
    Case(
        alert="LocalModelProgramBusy",
        series={
            _LAG % "1.0": "0+60x19 1140+30x60",
            _LAG % "5.0": "0+60x80",
            _LAG % "+Inf": "0+60x80",
        },
        quiet=(19, 25),
        fires=45,
        labels={"job": "localmodel-agent", "node": "a"},
        summary="localmodel-agent on a is late by 4.92s",
        description="Leases and probes are in danger when the event loop is that late.",
    ),
)
