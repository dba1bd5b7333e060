"""What several commands take, and what they make of it; nothing is imported before a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from controller.cli.kubeconfig import Target
    from controller.cli.wish import Wish

Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Kubeconfig file.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Caches of this namespace.")
]
Cache = Annotated[str, typer.Argument(metavar="CACHE", help="NAME or NAMESPACE/NAME.")]
MaybeNode = Annotated[str | None, typer.Argument(metavar="[NODE]", help="One node of it.")]
Groups = Annotated[list[str] | None, typer.Option("--group", "-g", help="Node group; repeatable.")]
Name = Annotated[str | None, typer.Option("--name", help="Default: from the URI.")]
Size = Annotated[
    str, typer.Option("--size", help="Such as 20Gi; auto asks the source and rounds up.")
]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", help="Keep only files that match; repeatable.")
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", help="Leave out files that match; repeatable.")
]
Timeout = Annotated[
    str, typer.Option("--timeout", help="How long to wait, such as 90s or 1h30m; 0 = without end.")
]


def target_of(kubeconfig: Path | None, context: str | None) -> "Target":
    from controller.cli.kubeconfig import find

    return find(kubeconfig, context)


def wished(
    uri: str,
    group: list[str] | None,
    *,
    allow: list[str] | None,
    ignore: list[str] | None,
    **given: Any,
) -> "Wish":
    from controller.cli.wish import Wish

    if not group:
        raise typer.BadParameter("name at least one node group", param_hint="--group")
    return Wish(uri, tuple(group), allow=tuple(allow or ()), ignore=tuple(ignore or ()), **given)


def one_of(value: str, allowed: tuple[str, ...], what: str = "--output") -> None:
    """Raises `BadParameter`, as all of these do, for what was not meant to be given."""
    if value not in allowed:
        raise typer.BadParameter(f"must be {' or '.join(filter(None, allowed))}", param_hint=what)


def seconds_of(text: str) -> float | None:
    from controller.cli.pages.text import seconds_in

    try:
        return seconds_in(text) or None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
