"""Every reason that a condition, an event, a status or a metric label may carry."""

from enum import StrEnum


class Reason(StrEnum):
    """Machine names; the same value stands in conditions, events, `status.models[].reason` and metrics."""

    # A copy, as the agent reports it: what moves.
    QUEUED = "Queued"
    RESOLVING = "Resolving"
    DOWNLOADING = "Downloading"
    VERIFYING = "Verifying"
    UNPACKING = "Unpacking"
    PUBLISHED = "Published"
    EVICTING = "Evicting"
    REPAIRING = "Repairing"

    # A copy: tried again soon, with backoff.
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_THROTTLED = "SourceThrottled"
    SOURCE_ERROR = "SourceError"
    SOURCE_CHANGED = "SourceChanged"
    CREDENTIALS_UNREACHABLE = "CredentialsUnreachable"
    TEMPORARY_FOLDER_FULL = "TemporaryFolderFull"
    DISK_ERROR = "DiskError"
    INTERNAL_ERROR = "InternalError"

    # A copy: stalled until the spec, the secret or the source changes.
    INVALID_SOURCE = "InvalidSource"
    UNSUPPORTED_SCHEME = "UnsupportedScheme"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_EMPTY = "SourceEmpty"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    ACCESS_DENIED = "AccessDenied"
    CREDENTIALS_MISSING = "CredentialsMissing"
    CREDENTIALS_INVALID = "CredentialsInvalid"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    UNSAFE_PATH = "UnsafePath"
    ARCHIVE_INVALID = "ArchiveInvalid"
    ARCHIVE_TOO_LARGE = "ArchiveTooLarge"
    INSUFFICIENT_STORAGE = "InsufficientStorage"

    # A cache, as the controller sums it up.
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    PENDING = "Pending"
    DELETING = "Deleting"
    NO_NODES = "NoNodes"
    DELETED = "Deleted"
    COPY_UNCONFIRMED = "CopyUnconfirmed"
    INVALID_SPEC = "InvalidSpec"
    NODE_GROUP_NOT_FOUND = "NodeGroupNotFound"
    NODE_NOT_READY = "NodeNotReady"
    NO_SPACE = "NoSpace"
    AGENT_SILENT = "AgentSilent"
    AGENT_MISSING = "AgentMissing"
    REVISION_SKEW = "RevisionSkew"
    COPY_FAILED = "CopyFailed"
    VOLUME_NAME_CONFLICT = "VolumeNameConflict"
    VOLUMES_PENDING = "VolumesPending"
    VOLUME_REFUSED = "VolumeRefused"
    VOLUME_OUTDATED = "VolumeOutdated"
    PLACED = "Placed"
    DOWNLOADED = "Downloaded"
    NOT_SERVABLE = "NotServable"

    # A group, a node's disk, the installation.
    PATH_MISMATCH = "PathMismatch"
    STORAGE_READY = "StorageReady"
    STORAGE_NOT_READY = "StorageNotReady"
    COPIES_UNREACHABLE = "CopiesUnreachable"
    CRDS_OUTDATED = "CRDsOutdated"
    CREDENTIALS_NAMESPACE_MISMATCH = "CredentialsNamespaceMismatch"
    CONFIG_INVALID = "ConfigInvalid"
    WEBHOOK_LEFT_BEHIND = "WebhookLeftBehind"
