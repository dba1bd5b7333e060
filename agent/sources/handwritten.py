"""Typed reading of values that somebody wrote by hand; errors name the key, never the value. Pure."""

from collections.abc import Mapping
from typing import Any

from agent.errors import Stalled
from agent.policy import Endpoint
from shared.domain.reasons import Reason

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


class Values:
    """A mapping from a Secret or a spec. Empty strings count as absent.

    names: what the keys are called in the mapping; with it, a key without a name is absent.
    """

    def __init__(
        self, raw: Mapping[str, Any], *, prefix: str = "", names: Mapping[str, str] | None = None
    ) -> None:
        self._raw = raw
        self._prefix = prefix
        self._names = names

    def text(self, key: str) -> str | None:
        if self._names is not None and key not in self._names:
            return None
        value = self._raw.get(self._name(key))
        if value is None:
            return None
        if isinstance(value, bool | int | float):
            value = str(value).lower()
        if not isinstance(value, str):
            raise invalid(f"{self.named(key)} must be a string")
        return value.strip() or None

    def flag(self, key: str) -> bool | None:
        value = self.text(key)
        if value is None:
            return None
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        raise invalid(f"{self.named(key)} must be true or false")

    def url(self, key: str) -> str | None:
        value = self.text(key)
        if value is None:
            return None
        if not value.lower().startswith(("http://", "https://")):
            raise invalid(f"{self.named(key)} must start with http:// or https://")
        if "@" in value or "?" in value or "#" in value:
            raise invalid(f"{self.named(key)} must be a plain URL")
        try:
            Endpoint.of(value)
        except ValueError:
            raise invalid(f"{self.named(key)} is not a usable URL") from None
        return value.rstrip("/")

    def named(self, key: str) -> str:
        """The key as whoever wrote it knows it."""
        return f"{self._prefix}{self._name(key)}"

    def _name(self, key: str) -> str:
        return key if self._names is None else self._names.get(key, key)


def one_word(key: str, token: str | None) -> str | None:
    """A token becomes a header, so it must be one printable ASCII word."""
    if token is not None and not all(0x20 < ord(c) < 0x7F for c in token):
        raise invalid(f"{key} is not a token")
    return token


def invalid(message: str) -> Stalled:
    return Stalled(Reason.CREDENTIALS_INVALID, message)
