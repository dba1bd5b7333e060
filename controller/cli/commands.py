"""The commands and their options; what they do is in the modules beside this one, which are imported when one runs."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.options import (
    Allow,
    Cache,
    Context,
    Groups,
    Ignore,
    Kubeconfig,
    MaybeNode,
    Name,
    Namespace,
    Size,
    Timeout,
    one_of,
    seconds_of,
    target_of,
    wished,
)

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
    one_of(output, ("", "json", "yaml", "wide", "name"))
    if watch and output not in ("", "wide"):
        raise typer.BadParameter("json, yaml and name are for one look", param_hint="--watch")
    from controller.cli import look
    from controller.cli.outcome import run

    run(look.status(target_of(kubeconfig, context), cache, namespace, output=output, watch=watch))


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
    one_of(output, ("", "json", "yaml"))
    if (uri is None) == (file is None):
        raise typer.BadParameter("give a URI with --group, or a file by -f")
    if file is not None:
        given = {"--group": group, "--name": name, "--size": size, "--allow": allow}
        for option, value in {**given, "--ignore": ignore}.items():
            if value is not None:
                raise typer.BadParameter("the file says it", param_hint=option)
    from controller.cli import make
    from controller.cli.outcome import run

    source = file or wished(
        uri or "",
        group,
        name=name,
        namespace=namespace,
        size=size or "auto",
        allow=allow,
        ignore=ignore,
    )
    target = target_of(kubeconfig, context)
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
    one_of(output, ("", "json", "yaml"))
    one_of(dry_run, ("none", "client"), "--dry-run")
    from controller.cli import make
    from controller.cli.outcome import run

    wish = wished(
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
    seconds = seconds_of(timeout)
    if dry_run == "client":
        run(make.printed(wish, output or "yaml"))
    target = target_of(kubeconfig, context)
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
    seconds = seconds_of(timeout)
    from controller.cli import wait as waiting
    from controller.cli.outcome import run

    target = target_of(kubeconfig, context)
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

    run(look.node(target_of(kubeconfig, context), name))


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

    run(look.explained(target_of(kubeconfig, context), cache, node, namespace))


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

    run(make.retried(target_of(kubeconfig, context), cache, node, namespace))


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

    run(look.garbage(target_of(kubeconfig, context), namespace, dry_run=dry_run))


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="For kubectl-localmodel.")],
) -> None:
    """Print the completion script of a shell. For `kubectl localmodel` kubectl's own completion is enough."""
    from controller.cli.scripts import SCRIPTS

    one_of(shell, tuple(SCRIPTS), "SHELL")
    typer.echo(SCRIPTS[shell], nl=False)
