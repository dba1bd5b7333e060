"""Which reasons a test module expects to come out of something. What a test gives as an input proves nothing, and does not count."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.domain.reasons import Reason

_VALUES: Final = {reason.value: reason for reason in Reason}
# As a whole, or as the command line and metrics show one.
_SHOWN: Final = re.compile(r"^(\w+)$|\((\w+)\)|reason=\"(\w+)\"")
# They only hold what is compared.
_CONTAINERS: Final = frozenset({"set", "frozenset", "tuple", "list", "sorted", "str"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class _Helper:
    """A function of a test module that compares what it is given. compared: those of its parameters that do only that."""

    parameters: Sequence[str]
    compared: frozenset[str]

    def arguments(self, call: ast.Call) -> Iterator[ast.expr]:
        """What a call gives to be compared."""
        for name, argument in zip(self.parameters, call.args, strict=False):
            if name in self.compared:
                yield argument
        yield from (each.value for each in call.keywords if each.arg in self.compared)


def expected(module: ast.Module) -> set[Reason]:
    """Reasons with which a function compares what it got, and which it gives to nothing itself."""
    functions = [node for node in ast.walk(module) if isinstance(node, _Function)]
    helpers = {one.name: _helper(one) for one in functions if not one.name.startswith("test_")}
    return {reason for function in functions for reason in _of(function, helpers)}


def named(node: ast.AST) -> Reason | None:
    """`Reason.X` stands here."""
    match node:
        case ast.Attribute(value=ast.Name(id="Reason"), attr=name):
            return Reason.__members__.get(name)
        case _:
            return None


def _of(function: _Function, helpers: Mapping[str, _Helper]) -> set[Reason]:
    compared, other = _parted(function, helpers)
    found = {reason for node in compared for reason in _shown(node)}
    columns = _names(compared) - _names(other)
    for name, value in _cases(function):
        if name in columns:
            found |= {reason for node in ast.walk(value) for reason in _shown(node)}
    return found - {reason for node in other if (reason := named(node)) is not None}


def _helper(function: _Function) -> _Helper:
    compared, other = _parted(function, {})
    parameters = [one.arg for one in function.args.args]
    every = {*parameters, *(one.arg for one in function.args.kwonlyargs)}
    return _Helper(parameters, frozenset(every & _names(compared) - _names(other)))


def _parted(
    function: _Function, helpers: Mapping[str, _Helper]
) -> tuple[list[ast.AST], list[ast.AST]]:
    """A body's nodes: those with which something is compared, and the others."""
    body = [node for statement in function.body for node in ast.walk(statement)]
    compared = [inner for node in body for inner in _compared(node, helpers)]
    inside = {id(node) for node in compared}
    return compared, [node for node in body if id(node) not in inside]


def _compared(node: ast.AST, helpers: Mapping[str, _Helper]) -> Iterator[ast.AST]:
    match node:
        case ast.Assert() | ast.Compare():
            yield from _outside_of_calls(node)
        case ast.Call(func=ast.Name(id=name)) if name in helpers:
            for argument in helpers[name].arguments(node):
                yield from _outside_of_calls(argument)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if "wait" in name:
            for argument in (*node.args, *(each.value for each in node.keywords)):
                yield from _outside_of_calls(argument)
        case _:
            pass


def _outside_of_calls(top: ast.AST) -> Iterator[ast.AST]:
    """What a function is given within an assertion is an input too; a method is asked about its object."""
    yield top
    for node in ast.iter_child_nodes(top):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name not in _CONTAINERS:
                continue
            case _:
                yield from _outside_of_calls(node)


def _names(nodes: Sequence[ast.AST]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _shown(node: ast.AST) -> Iterator[Reason]:
    """By name, and by value in text."""
    reason = named(node)
    if reason is not None:
        yield reason
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        for groups in _SHOWN.findall(node.value):
            yield from (_VALUES[word] for word in groups if word in _VALUES)


def _cases(function: _Function) -> Iterator[tuple[str, ast.expr]]:
    """Names and values of `parametrize`, one row after the other."""
    for decorator in function.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(attr="parametrize"), args=[names, ast.List(elts=rows)]
            ):
                columns = _columns(names)
                for row in rows:
                    if len(columns) == 1:
                        yield columns[0], row
                    elif isinstance(row, ast.Tuple):
                        yield from zip(columns, row.elts, strict=False)
            case _:
                pass


def _columns(names: ast.expr) -> list[str]:
    match names:
        case ast.Constant(value=str(text)):
            return [name.strip() for name in text.split(",")]
        case ast.Tuple(elts=several) | ast.List(elts=several):
            return [str(each.value) for each in several if isinstance(each, ast.Constant)]
        case _:
            return []
