"""The work list, read into what the node should hold: one `Wanted` per storage key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.api.node import LocalModelInfo
from shared.domain.patterns import Selection, Selections
from shared.domain.quantity import parse_quantity
from shared.domain.storage_key import status_key, storage_key

CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Access:
    """Which credentials a copy names; nothing named = the agent's own identity. Never holds a secret's value."""

    service_account: str | None = None
    storage: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    namespace: str | None = None
    """Of the cache that names them; None for cluster caches and where nothing is named."""

    @property
    def named(self) -> bool:
        return bool(self.service_account or self.storage)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the work list. `declared`: bytes of modelSize, None when absent or unreadable."""

    key: str
    uri: str
    storage_key: str
    selection: Selection
    access: Access = Access()
    namespace: str | None = None
    revision: str | None = None
    retry: str | None = None
    declared: int | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a failed copy depends on in the work list; when it changes, the copy is tried again at once."""

    selections: Selections
    revision: str | None
    accesses: tuple[Access, ...]
    retries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tree that the node should hold, for all entries with its URI: the union of what they select."""

    storage_key: str
    uri: str
    entries: tuple[Entry, ...]
    selections: Selections
    revision: str | None
    accesses: tuple[Access, ...]
    fingerprint: Fingerprint = field(init=False)

    def __post_init__(self) -> None:
        retries = tuple(sorted({entry.retry for entry in self.entries if entry.retry}))
        object.__setattr__(
            self,
            "fingerprint",
            Fingerprint(self.selections, self.revision, self.accesses, retries),
        )

    @property
    def trust(self) -> str:
        """Trust domain of the bytes: all cluster caches share one, each namespace has its own."""
        namespaces = [entry.namespace for entry in self.entries]
        return CLUSTER if None in namespaces else min(name for name in namespaces if name)

    @property
    def cluster_only(self) -> bool:
        """Whether no namespace cache takes part: some sources are for cluster caches alone."""
        return all(entry.namespace is None for entry in self.entries)


def read_entry(info: LocalModelInfo) -> Entry:
    """One line of the work list; an unreadable size counts as undeclared, it only serves a message."""
    storage = info.storage
    names_some = info.service_account_name or (storage and storage.key)
    try:
        declared = None if info.model_size is None else parse_quantity(info.model_size)
    except ValueError:
        declared = None
    return Entry(
        key=status_key(info.model_name, info.namespace),
        uri=info.source_model_uri,
        storage_key=storage_key(info.source_model_uri),
        selection=Selection(
            allow=_patterns(info.allow_patterns) or None, ignore=_patterns(info.ignore_patterns)
        ),
        access=Access(
            service_account=info.service_account_name or None,
            storage=(storage.key or None) if storage else None,
            parameters=tuple(sorted((storage.parameters or {}).items())) if storage else (),
            namespace=(info.namespace or None) if names_some else None,
        ),
        namespace=info.namespace or None,
        revision=info.revision or None,
        retry=info.retry,
        declared=declared,
    )


def read_work_list(models: Sequence[LocalModelInfo]) -> tuple[Entry, ...]:
    """Entries in the order of the list; of two with the same key the first counts."""
    entries: dict[str, Entry] = {}
    for info in models:
        entry = read_entry(info)
        entries.setdefault(entry.key, entry)
    return tuple(entries.values())


def group(entries: Sequence[Entry]) -> Mapping[str, Wanted]:
    """Entries by storage key, in the order in which a key first appears.

    The revision is the first that an entry names: one folder can hold only one.
    """
    together: dict[str, list[Entry]] = {}
    for entry in entries:
        together.setdefault(entry.storage_key, []).append(entry)
    return {key: _wanted(members) for key, members in together.items()}


def _patterns(patterns: Sequence[str] | None) -> tuple[str, ...]:
    """Order and repetition mean nothing; an empty list is the same as none."""
    return tuple(sorted(set(patterns or ())))


def _wanted(members: Sequence[Entry]) -> Wanted:
    ordered = tuple(sorted(members, key=lambda entry: entry.key))
    return Wanted(
        storage_key=ordered[0].storage_key,
        uri=ordered[0].uri,
        entries=ordered,
        selections=Selections.union(entry.selection for entry in ordered),
        revision=next((entry.revision for entry in ordered if entry.revision), None),
        accesses=tuple(dict.fromkeys(entry.access for entry in ordered)),
    )
