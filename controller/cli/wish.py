"""The cache that somebody wants: from a file, or from a URI and options; its size from the source where that can be asked."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.cli.measure import PROGRAM, Measured, measure, program
from controller.cli.outcome import Exit, Problem, say
from controller.cli.pages.sizes import default_name, manifest, round_up
from controller.cli.pages.text import counted, size
from shared.api.meta import GROUP
from shared.domain.quantity import parse_quantity
from shared.domain.uri import SourceUri, redact

_KINDS = ("LocalModelCache", "LocalModelNamespaceCache")
_INSTALL = f"install {PROGRAM} (pip install 'localmodel[agent]')"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person gives on the command line."""

    uri: str
    groups: tuple[str, ...]
    name: str | None = None
    namespace: str | None = None
    size: str = "auto"
    service_account: str | None = None
    storage_key: str | None = None
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


async def fulfilled(wish: Wish) -> dict[str, Any]:
    """The manifest; with size `auto` as measured at the source, rounded up."""
    uri = parsed(wish.uri)
    try:
        name = wish.name or default_name(uri)
    except ValueError as error:
        raise Problem(
            f"{redact(wish.uri)}: {error}.", "--name gives one.", exit=Exit.USAGE
        ) from None
    if wish.size == "auto":
        found = round_up(await _measured_for_good(wish))
    else:
        found = quantity(wish.size, "--size")
    return manifest(
        wish.uri,
        name=name,
        size=found,
        groups=wish.groups,
        namespace=wish.namespace,
        service_account=wish.service_account,
        storage_key=wish.storage_key,
        allow=wish.allow,
        ignore=wish.ignore,
    )


async def _measured_for_good(wish: Wish) -> int:
    """Bytes; a size that is wrong would be found out only on the nodes."""
    command = program()
    if command is None:
        text = f"The size cannot be measured: {PROGRAM} is not installed."
        raise Problem(text, f"give --size, such as --size 20Gi, or {_INSTALL}.")
    found = await measure(command, wish.uri, allow=wish.allow, ignore=wish.ignore)
    if found.archive:
        packed = f" ({size(found.bytes)} packed)" if found.bytes is not None else ""
        text = f"The source is an archive{packed}: what it takes once it is unpacked is not known."
        raise Problem(text, "give --size.")
    if found.bytes is None:
        raise Problem("The source does not say how large the model is.", "give --size.")
    say(told(found))
    return found.bytes


async def measured(wire: dict[str, Any], *, offline: bool) -> Measured | None:
    """None where nothing is asked, or nobody can be asked: modelSize counts then, and this is said."""
    if offline:
        return None
    command = program()
    if command is None:
        say(f"{PROGRAM} is not installed: modelSize counts, not what the source holds.")
        return None
    spec = wire["spec"]
    found = await measure(
        command,
        str(spec["sourceModelUri"]),
        allow=tuple(spec.get("allowPatterns") or ()),
        ignore=tuple(spec.get("ignorePatterns") or ()),
    )
    say(told(found))
    return found


def told(found: Measured) -> str:
    bytes_ = "unknown size" if found.bytes is None else size(found.bytes)
    packed = ", packed" if found.archive else ""
    revision = f", revision {found.revision}" if found.revision else ""
    return f"The source holds {counted(found.files, 'file')}, {bytes_}{packed}{revision}."


def from_file(path: Path, namespace: str | None, usual: str) -> dict[str, Any]:
    """The one cache in a YAML or JSON file, `-` is standard input.

    namespace: as somebody asks for it, usual: else that of a namespace cache which names none.
    """
    import yaml

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        documents = [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Problem(f"{path} cannot be read: {why}.", exit=Exit.USAGE) from error
    except yaml.YAMLError as error:
        raise Problem(f"{path} is not YAML: {error}", exit=Exit.USAGE) from error
    found = [
        one
        for one in documents
        if one.get("kind") in _KINDS and str(one.get("apiVersion", "")).startswith(f"{GROUP}/")
    ]
    if len(found) != 1:
        text = f"{path} holds {counted(len(found), 'cache')}; a plan is for one."
        raise Problem(text, exit=Exit.USAGE)
    return _checked(found[0], path, namespace, usual)


def _checked(wire: dict[str, Any], path: Path, namespace: str | None, usual: str) -> dict[str, Any]:
    """With all that a plan needs, or a Problem that names what is missing."""
    metadata, spec = wire.get("metadata"), wire.get("spec")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise Problem(f"{path}: metadata.name is missing.", exit=Exit.USAGE)
    if not isinstance(spec, dict):
        raise Problem(f"{path}: spec is missing.", exit=Exit.USAGE)
    groups = spec.get("nodeGroups")
    if not isinstance(groups, list) or not groups:
        raise Problem(f"{path}: spec.nodeGroups is missing.", exit=Exit.USAGE)
    parsed(str(spec.get("sourceModelUri", "")))
    quantity(spec.get("modelSize"), "spec.modelSize")
    if wire["kind"] == "LocalModelCache":
        if namespace is not None:
            text = f"{path} holds a LocalModelCache, which belongs to no namespace."
            raise Problem(text, "leave out -n.", exit=Exit.USAGE)
        metadata = {name: value for name, value in metadata.items() if name != "namespace"}
    else:
        named = metadata.get("namespace")
        if namespace is not None and named not in (None, namespace):
            text = f"{path} names the namespace {named}, -n another one."
            raise Problem(text, exit=Exit.USAGE)
        metadata = {**metadata, "namespace": named or namespace or usual}
    return {**wire, "metadata": metadata}


def parsed(uri: str) -> SourceUri:
    try:
        return SourceUri.parse(uri)
    except ValueError as error:
        text = f"The URI {redact(uri)!r} {error}."
        raise Problem(
            text, "such as hf://owner/repo or s3://bucket/model.", exit=Exit.USAGE
        ) from None


def quantity(value: Any, what: str) -> int:
    try:
        return parse_quantity(value)
    except (ValueError, TypeError) as error:
        raise Problem(f"{what}: {error}.", exit=Exit.USAGE) from None
