"""What others may have changed under us, and how it is mended."""

import copy
from typing import Any

from controller.planning.installed import LEFT_BEHIND, check_crds, check_webhook
from shared.api.crd import crds

OURS = {crd["metadata"]["name"]: crd for crd in crds().values()}
CACHES = "localmodelcaches.serving.kserve.io"


def properties(installed: dict[str, Any], part: str) -> dict[str, Any]:
    schema = installed[CACHES]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: dict[str, Any] = schema["properties"][part]["properties"]
    return found


def test_our_own_crds_are_well() -> None:
    assert check_crds(OURS, OURS) is None


def test_more_than_ours_is_well_too() -> None:
    installed = copy.deepcopy(OURS)
    properties(installed, "spec")["ofTheFuture"] = {"type": "string"}
    assert check_crds(OURS, installed) is None


def test_a_crd_without_our_fields_is_named_with_the_command_that_mends_it() -> None:
    installed = copy.deepcopy(OURS)
    del properties(installed, "status")["copies"]["properties"]["downloading"]
    del properties(installed, "spec")["allowPatterns"]
    problem = check_crds(OURS, installed)
    assert problem is not None
    assert problem[0] == "CRDsOutdated"
    assert f"{CACHES} lacks spec.allowPatterns, status.copies.downloading" in problem[1]
    assert "kubectl apply --server-side --force-conflicts -k deploy/crds" in problem[1]


def test_a_crd_that_is_not_there_is_named() -> None:
    problem = check_crds(OURS, {name: crd for name, crd in OURS.items() if name != CACHES})
    assert problem is not None
    assert f"{CACHES} is not installed" in problem[1]


def test_a_webhook_whose_server_is_gone_is_named() -> None:
    assert check_webhook(None) is None
    problem = check_webhook({"metadata": {"name": LEFT_BEHIND}})
    assert problem is not None
    assert "kubectl delete validatingwebhookconfiguration" in problem[1]
