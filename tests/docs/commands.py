"""Whether a command that stands in the documentation exists: program, verb, options, files. Nothing is run but `--help`."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import typer.main
import yaml

from agent.cli.commands import app as agent
from controller.cli.commands import app as plugin
from shared.api.crd import KINDS
from tests.support import binaries
from tests.support.cluster import REPOSITORY

# Other people's programs, of which only the name is known here.
_OTHERS = {
    "cd", "curl", "cut", "docker", "echo", "git", "head", "k3s", "kind", "mkdir", "pip", "printf", "restorecon",
    "sed", "semanage", "sha256sum", "source",
}  # fmt: skip
_CORE = {
    "configmap", "crd", "daemonset", "deployment", "events", "jobs", "lease", "namespace", "node", "nodes", "pod", "pods",
    "pv", "pvc", "secret", "validatingwebhookconfiguration",
}  # fmt: skip
_OURS = {name for kind in KINDS for name in (kind.plural, kind.short, kind.model.__name__.lower())}
_ASKED = {"get", "describe", "delete", "edit", "label", "annotate", "explain"}
_NESTED = {"rollout", "create", "scale"}
_WITH_VALUE = {"-n", "--namespace", "-f", "-k", "-o", "-l", "--context", "--field-selector"}


class Wrong(AssertionError):
    """Such a command does not exist."""


def check(text: str) -> None:
    """Raises `Wrong` for the first command of a script that cannot be right."""
    done = subprocess.run(
        ["bash", "-n"], input=text, capture_output=True, text=True, timeout=10, check=False
    )
    if done.returncode != 0:
        raise Wrong(done.stderr)
    for command in commands(text):
        _check(command)


def commands(text: str) -> Iterator[list[str]]:
    """Each simple command of a script, without redirections, assignments and what separates commands."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        skip = False
        for word in words:
            if skip:
                skip = False
            elif word and set(word) <= set("();&|"):
                if command:
                    yield command
                command = []
            elif word and set(word) <= set("<>"):
                skip = True
            elif command or not re.fullmatch(r"[A-Za-z_]\w*=.*", word):
                command.append(word)
        if command:
            yield command


def _check(command: Sequence[str]) -> None:
    program, arguments = command[0], command[1:]
    match program:
        case "localmodel-agent":
            _typer(agent, arguments, command)
        case "kubectl" if arguments[:1] == ["localmodel"]:
            _typer(plugin, arguments[1:], command)
        case "kubectl":
            _kubectl(arguments, command)
        case "make":
            targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
            _all_in([one for one in arguments if "=" not in one], targets, command)
        case "uv":
            _uv(arguments, command)
        case "python":
            _python(arguments, command)
        case "helm":
            _helm(arguments, command)
        case _ if "/" in program:
            _script(program, arguments, command)
        case _ if program not in _OTHERS:
            raise Wrong(f"an unknown program: {shlex.join(command)}")


def _typer(app: typer.Typer, arguments: Sequence[str], command: Sequence[str]) -> None:
    """As the program itself parses it, except that values are not looked at: files need not exist."""
    group: Any = typer.main.get_command(app)
    if not arguments or arguments[0] in ("-h", "--help"):
        return
    chosen = group.commands.get(arguments[0])
    if chosen is None:
        raise Wrong(f"no such command: {shlex.join(command)}")
    context = chosen.context_class(chosen, info_name=arguments[0], resilient_parsing=True)
    try:
        values, left, _ = chosen.make_parser(context).parse_args(list(arguments[1:]))
    except Exception as error:
        raise Wrong(f"{shlex.join(command)}: {error}") from error
    if left:
        raise Wrong(f"{shlex.join(command)}: too much: {left}")
    for parameter in chosen.params:
        if parameter.required and not values.get(parameter.name):
            raise Wrong(f"{shlex.join(command)}: {parameter.name} is missing")


def _kubectl(arguments: Sequence[str], command: Sequence[str]) -> None:
    """Verb and options by kubectl's own help, kinds that are ours or Kubernetes', files that are in the repository."""
    words: list[str] = []
    options: list[str] = []
    values = iter(arguments)
    for word in values:
        if word == "--":
            break
        if not word.startswith("-"):
            words.append(word)
            continue
        options.append(word.partition("=")[0])
        if word in _WITH_VALUE:
            value = next(values, "")
            if word in ("-f", "-k"):
                _exists(value, command)
    verb = (
        words[:2]
        if words[0] in _NESTED and words[1].isalpha() and words[0] != "scale"
        else words[:1]
    )
    text = _help(*verb)
    for option in options:
        if not re.search(rf"(^|[\s,]){re.escape(option)}[,=:\s]", text):
            raise Wrong(f"{shlex.join(command)}: kubectl {' '.join(verb)} has no {option}")
    if words[0] in _ASKED:
        kinds = re.split("[/.]", words[1])[0].split(",")
        _all_in([kind.lower() for kind in kinds], _CORE | _OURS, command)


@cache
def _help(*verb: str) -> str:
    kubectl = binaries.find(["kubectl"])["kubectl"]
    texts = []
    for arguments in ([*verb, "--help"], ["options"]):
        done = subprocess.run(
            [str(kubectl), *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        texts.append(done.stdout)
    if f"kubectl {' '.join(verb)}" not in texts[0]:
        raise Wrong(f"kubectl has no {' '.join(verb)}")
    return "\n".join(texts)


def _uv(arguments: Sequence[str], command: Sequence[str]) -> None:
    words = [word for word in arguments if not word.startswith("-")]
    if words[0] == "run":
        inner = list(arguments[arguments.index("run") + 1 :])
        if inner[0] == "python":
            _python(inner[1:], command)
        elif inner[0] != "mkdocs" and importlib.util.find_spec(inner[0]) is None:
            raise Wrong(f"an unknown program: {shlex.join(command)}")
    elif words[0] == "sync":
        known = {"--all-extras", "--extra", "--frozen"}
        _all_in([word for word in arguments if word.startswith("-")], known, command)
    else:
        raise Wrong(f"an unknown command: {shlex.join(command)}")


def _python(arguments: Sequence[str], command: Sequence[str]) -> None:
    if arguments[0] != "-m" or importlib.util.find_spec(arguments[1]) is None:
        raise Wrong(f"no such module: {shlex.join(command)}")


def _helm(arguments: Sequence[str], command: Sequence[str]) -> None:
    values = yaml.safe_load(_text("deploy/chart/values.yaml"))
    for before, word in pairwise(arguments):
        if word.startswith("deploy/"):
            _exists(word, command)
        if before == "--set":
            found = values
            for part in word.partition("=")[0].split("."):
                if found != {} and part not in found:
                    raise Wrong(f"{shlex.join(command)}: the chart has no value {word}")
                found = found.get(part, {})


def _script(program: str, arguments: Sequence[str], command: Sequence[str]) -> None:
    _exists(program, command)
    text = _text(program)
    for option in arguments:
        if option.startswith("-") and option not in text:
            raise Wrong(f"{shlex.join(command)}: {program} has no {option}")


def _exists(path: str, command: Sequence[str]) -> None:
    if "/" in path and not (REPOSITORY / path).exists():
        raise Wrong(f"{shlex.join(command)}: {path} does not exist")


def _all_in(names: Sequence[str], known: set[str], command: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise Wrong(f"{shlex.join(command)}: unknown is {name}")


@cache
def _text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")
