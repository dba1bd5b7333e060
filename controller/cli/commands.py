"""The commands and their options; what they do is in the modules beside this one, which are imported when one runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from controller.cli.kubeconfig import Target
    from controller.cli.wish import Wish

_EXITS = (
    "Exit codes: 0 done, or the answer is yes; 1 failed but may succeed later; 2 wrong usage; 3 fails until something is "
    "changed; 4 the answer is no (it does not fit, it is not Ready); 130 interrupted."
)

app = typer.Typer(
    name="kubectl-localmodel",
    help="Models on the disks of nodes: what is there, what moves, what failed and why, and what would fit. "
    "Works with your own kubeconfig and rights.",
    epilog=_EXITS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


@app.command(epilog=_EXITS)
def status(
    cache: Annotated[
        str | None, typer.Argument(metavar="[CACHE]", help="NAME or NAMESPACE/NAME.")
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="json|yaml|wide|name", help="Format.")
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again until Ctrl-C.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """All caches, or one with its nodes: state, progress, reason, next try. Trouble comes first."""
    _one_of(output, ("", "json", "yaml", "wide", "name"))
    if watch and output not in ("", "wide"):
        raise typer.BadParameter("json, yaml and name are for one look", param_hint="--watch")
    from controller.cli import look
    from controller.cli.outcome import run

    run(look.status(_target(kubeconfig, context), cache, namespace, output=output, watch=watch))


@app.command(epilog=_EXITS)
def plan(
    uri: Annotated[str | None, typer.Argument(metavar="[URI]", help="Source of a model.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--filename", help="A cache's manifest; - = standard input."),
    ] = None,
    group: Groups = None,
    name: Name = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Such as 20Gi; auto (default) asks the source.")
    ] = None,
    allow: Allow = None,
    ignore: Ignore = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the source; modelSize counts.")
    ] = False,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="json|yaml", help="Format.")
    ] = "",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What a cache would do on each node: already there, fits, shares, or short by how much. Writes nothing."""
    _one_of(output, ("", "json", "yaml"))
    if (uri is None) == (file is None):
        raise typer.BadParameter("give a URI with --group, or a file by -f")
    if file is not None:
        given = {"--group": group, "--name": name, "--size": size, "--allow": allow}
        for option, value in {**given, "--ignore": ignore}.items():
            if value is not None:
                raise typer.BadParameter("the file says it", param_hint=option)
    from controller.cli import make
    from controller.cli.outcome import run

    source = file or _wish(
        uri or "",
        group,
        name=name,
        namespace=namespace,
        size=size or "auto",
        allow=allow,
        ignore=ignore,
    )
    target = _target(kubeconfig, context)
    run(make.planned(target, source, namespace, offline=offline, output=output))


@app.command(epilog=_EXITS)
def create(
    uri: Annotated[str, typer.Argument(metavar="URI", help="s3://, gs://, hf://, https://, …")],
    group: Groups = None,
    name: Name = None,
    size: Size = "auto",
    service_account: Annotated[
        str | None, typer.Option("--service-account", help="Whose secrets give access.")
    ] = None,
    storage_key: Annotated[
        str | None, typer.Option("--storage-key", help="Entry of the secret storage-config.")
    ] = None,
    allow: Allow = None,
    ignore: Ignore = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is Ready.")] = False,
    timeout: Timeout = "1h",
    dry_run: Annotated[
        str, typer.Option("--dry-run", metavar="none|client", help="client: only print it.")
    ] = "none",
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="json|yaml", help="Print the manifest.")
    ] = "",
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Make a cache of this namespace only.")
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make a cache of a model; its size is measured at the source."""
    _one_of(output, ("", "json", "yaml"))
    _one_of(dry_run, ("none", "client"), "--dry-run")
    from controller.cli import make
    from controller.cli.outcome import run

    wish = _wish(
        uri,
        group,
        name=name,
        namespace=namespace,
        size=size,
        allow=allow,
        ignore=ignore,
        service_account=service_account,
        storage_key=storage_key,
    )
    seconds = _seconds(timeout)
    if dry_run == "client":
        run(make.printed(wish, output or "yaml"))
    target = _target(kubeconfig, context)
    run(make.created(target, wish, output=output, wait=wait, seconds=seconds))


@app.command(epilog=_EXITS)
def wait(
    caches: Annotated[
        list[str], typer.Argument(metavar="CACHE...", help="NAME or NAMESPACE/NAME.")
    ],
    timeout: Timeout = "1h",
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End when one stalls, instead of waiting for help.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Wait until caches are Ready, with progress, and the reason when nothing moves."""
    seconds = _seconds(timeout)
    from controller.cli import wait as waiting
    from controller.cli.outcome import run

    target = _target(kubeconfig, context)
    run(waiting.wait(target, caches, namespace, seconds=seconds, fail_fast=fail_fast))


@app.command()
def node(
    name: Annotated[str, typer.Argument(metavar="NODE")],
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """One node: its disk, what is on it, on its way and left over, its last events."""
    from controller.cli import look
    from controller.cli.outcome import run

    run(look.node(_target(kubeconfig, context), name))


@app.command()
def explain(
    cache: Cache,
    node: MaybeNode = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Why a cache, or its copy on one node, is as it is, and what to do."""
    from controller.cli import look
    from controller.cli.outcome import run

    run(look.explained(_target(kubeconfig, context), cache, node, namespace))


@app.command()
def retry(
    cache: Cache,
    node: MaybeNode = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Try failed copies again now."""
    from controller.cli import make
    from controller.cli.outcome import run

    run(make.retried(_target(kubeconfig, context), cache, node, namespace))


@app.command()
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list; nothing else exists.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List caches that no service uses, by size and age."""
    from controller.cli import look
    from controller.cli.outcome import run

    run(look.garbage(_target(kubeconfig, context), namespace, dry_run=dry_run))


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="For kubectl-localmodel.")],
) -> None:
    """Print the completion script of a shell. For `kubectl localmodel` kubectl's own completion is enough."""
    from controller.cli.completion import SCRIPTS

    _one_of(shell, tuple(SCRIPTS), "SHELL")
    typer.echo(SCRIPTS[shell], nl=False)


def _target(kubeconfig: Path | None, context: str | None) -> "Target":
    from controller.cli.kubeconfig import find

    return find(kubeconfig, context)


def _wish(
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


def _one_of(value: str, allowed: tuple[str, ...], what: str = "--output") -> None:
    if value not in allowed:
        raise typer.BadParameter(f"must be {' or '.join(filter(None, allowed))}", param_hint=what)


def _seconds(text: str) -> float | None:
    from controller.cli.pages.text import seconds_in

    try:
        return seconds_in(text) or None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
