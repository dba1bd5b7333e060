"""The commands and their options; what they do is in the modules beside this one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent.sources.credentials import Credentials

_EXITS = (
    "Exit codes: 0 done, 1 failed but may succeed later, 2 wrong usage, 3 fails until something is changed, "
    "4 the folder cannot be used, 5 files are damaged, 130 interrupted (the same command goes on from there)."
)

app = typer.Typer(
    name="localmodel-agent",
    help="Keeps models in a node's cache folder, or in a folder of your own.",
    epilog=_EXITS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Uri = Annotated[
    str,
    typer.Argument(
        metavar="URI",
        help="s3, gs, az, abfs, hf, modelscope, oci, webhdfs, hdfs, git+https, https, http or file ://…",
    ),
]
Root = Annotated[Path, typer.Option("--root", help="Folder of the cache; made when missing.")]
Existing = Annotated[
    Path, typer.Option("--root", help="Folder of the cache.", exists=True, file_okay=False)
]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", help="Keep only files that match; repeatable.")
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", help="Leave out files that match; repeatable.")
]
Revision = Annotated[
    str | None, typer.Option(help="Commit, tag or generation, where the source has such.")
]
TokenEnv = Annotated[
    str | None,
    typer.Option(metavar="VARIABLE", help="Environment variable that holds a Hugging Face token."),
]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="Use no credentials at all.")]
Endpoint = Annotated[str | None, typer.Option(help="Object store to use instead of the usual one.")]
Region = Annotated[str | None, typer.Option(help="Region of an S3 bucket.")]


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings; LOCALMODEL_* variables win.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig; without it the pod's own account is used.")
    ] = None,
) -> None:
    """Serve this node: what its LocalModelNode names comes to be on its disk."""
    from agent.node.start import serve

    raise typer.Exit(serve(config=config, kubeconfig=kubeconfig))


@app.command(epilog=_EXITS)
def pull(
    uri: Uri,
    root: Root,
    revision: Revision = None,
    allow: Allow = None,
    ignore: Ignore = None,
    token_env: TokenEnv = None,
    anonymous: Anonymous = False,
    endpoint_url: Endpoint = None,
    region: Region = None,
    connections: Annotated[int, typer.Option(min=1, max=256)] = 256,
    max_rate: Annotated[
        str, typer.Option(metavar="BYTES", help="Limit per second, such as 100Mi; 0 = unlimited.")
    ] = "0",
    retries: Annotated[
        int, typer.Option(min=0, help="Times to try again after a failure that may pass.")
    ] = 5,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Fetch a model, verify it, publish it at ROOT/models/KEY, and print that path."""
    from agent.cli.pull import PullOptions, run_pull

    options = PullOptions(
        uri=uri,
        root=root,
        revision=revision,
        allow=tuple(allow or ()),
        ignore=tuple(ignore or ()),
        credentials=_credentials(token_env, anonymous, endpoint_url, region),
        connections=connections,
        max_rate=_rate(max_rate),
        retries=retries,
        quiet=quiet,
    )
    raise typer.Exit(run_pull(options))


@app.command()
def resolve(
    uri: Uri,
    revision: Revision = None,
    allow: Allow = None,
    ignore: Ignore = None,
    token_env: TokenEnv = None,
    anonymous: Anonymous = False,
    endpoint_url: Endpoint = None,
    region: Region = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, with files.")] = False,
) -> None:
    """Ask the source what the model consists of: revision, size, files. Writes nothing."""
    from agent.cli.resolve import run_resolve

    run_resolve(
        uri,
        revision=revision,
        allow=tuple(allow or ()),
        ignore=tuple(ignore or ()),
        credentials=_credentials(token_env, anonymous, endpoint_url, region),
        as_json=as_json,
    )


@app.command(epilog=_EXITS)
def doctor(
    uri: Annotated[
        str | None, typer.Argument(metavar="[URI]", help="A model whose source is asked too.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Folder of the cache to look at; else the configuration's."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="An agent's YAML file: its folder, limits and rules count.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig; in a pod its own account is used.")
    ] = None,
    token_env: TokenEnv = None,
    anonymous: Anonymous = False,
    endpoint_url: Endpoint = None,
    region: Region = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="text|json", help="Format.")
    ] = "text",
) -> None:
    """Look for what would hinder copies: folder, disk, machine, clock, network, source. Changes nothing, also beside a running agent."""
    from agent.cli.doctor import DoctorOptions, run_doctor

    if output not in {"text", "json"}:
        raise typer.BadParameter("must be text or json", param_hint="--output")
    options = DoctorOptions(
        uri=uri,
        root=root,
        config=config,
        kubeconfig=kubeconfig,
        credentials=_credentials(token_env, anonymous, endpoint_url, region),
        output=output,
    )
    raise typer.Exit(run_doctor(options))


@app.command("ls")
def list_models(
    root: Existing,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="table|json|name", help="Format.")
    ] = "table",
) -> None:
    """List what is published below ROOT. Reads only, also beside a running agent."""
    from agent.cli.shelf import run_ls

    if output not in {"table", "json", "name"}:
        raise typer.BadParameter("must be table, json or name", param_hint="--output")
    run_ls(root, output)


@app.command()
def verify(
    root: Existing,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY|URI]...", help="Default: all.")
    ] = None,
) -> None:
    """Read published files again and compare them with their digests. Reads only, also beside a running agent."""
    from agent.cli.shelf import run_verify

    raise typer.Exit(run_verify(root, tuple(models or ())))


@app.command("rm")
def remove(
    root: Existing,
    models: Annotated[list[str], typer.Argument(metavar="KEY|URI...")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete published models and what was staged of them. Refused while an agent serves ROOT."""
    from agent.cli.shelf import run_rm

    raise typer.Exit(run_rm(root, tuple(models), dry_run=dry_run))


def _credentials(
    token_env: str | None, anonymous: bool, endpoint_url: str | None, region: str | None
) -> "Credentials":
    from agent.cli.given import read_credentials

    return read_credentials(token_env, anonymous, endpoint_url, region)


def _rate(text: str) -> int:
    from shared.domain.quantity import parse_quantity

    try:
        return parse_quantity(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--max-rate") from None
