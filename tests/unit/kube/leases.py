"""Leases with the API server's optimistic locking."""

from typing import Any

from tests.unit.kube.wire import Answer, ApiServer, Asked, Step, Wire, refusal


class Leases:
    """Makes `server` keep Leases. `history`: when, and who held it, as written by clients."""

    def __init__(self, server: ApiServer) -> None:
        self.kept: dict[str, Wire] = {}
        self.history: list[tuple[float, str]] = []
        self._version = 0
        server.otherwise = self.respond

    def spec(self, name: str) -> dict[str, Any]:
        spec: dict[str, Any] = self.kept[name]["spec"]
        return spec

    def touch(self, name: str, **spec: Any) -> None:
        """Somebody else writes it."""
        lease = self.kept[name]
        self._store({**lease, "spec": {**lease["spec"], **spec}})

    def respond(self, asked: Asked) -> Step:
        if asked.method == "POST":
            if asked.body["metadata"]["name"] in self.kept:
                return refusal(409, "AlreadyExists")
            return self._written(asked)
        there = self.kept.get(asked.path.rsplit("/", 1)[1])
        if there is None:
            return refusal(404, "NotFound")
        if asked.method == "GET":
            return Answer(200, there)
        version = asked.body["metadata"].get("resourceVersion")
        if version != there["metadata"]["resourceVersion"]:
            return refusal(409, "Conflict")
        return self._written(asked)

    def _written(self, asked: Asked) -> Step:
        stored = self._store(asked.body)
        self.history.append((asked.at, stored["spec"]["holderIdentity"]))
        return Answer(201 if asked.method == "POST" else 200, stored)

    def _store(self, lease: Wire) -> Wire:
        self._version += 1
        metadata = {**lease["metadata"], "resourceVersion": str(self._version)}
        stored = {**lease, "metadata": metadata}
        self.kept[metadata["name"]] = stored
        return stored
