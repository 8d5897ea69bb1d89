"""The graph of a compiled function for TensorBoard, each node in the place where one looks for it."""

from collections.abc import Iterable, Mapping

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

# Operations that change a variable: needed, although nobody uses what they return.
CHANGES = ("Assign", "ResourceApply")


def readable_graph(function: tf.types.experimental.GenericFunction) -> GraphDef:
    """The graph that `function`, of one signature, is compiled to, for people to look at.

    A variable stands under its own name, beside the operation that uses it, and no node reads it in between. Nodes
    without a scope are moved to that of what uses them. What nobody uses is left out, and so is what only hands the
    results to the caller, and who waits for whom.
    """
    traced = function.get_concrete_function().graph
    graph = traced.as_graph_def()
    for node in graph.node:
        node.input[:] = [name for name in node.input if not name.startswith("^")]
    variables = {id(variable.handle): variable.name.split(":")[0] for variable in traced.variables}
    rename(
        graph.node, {inner.op.name: variables[id(outer)] for outer, inner in traced.captures if id(outer) in variables}
    )
    rename(graph.node, {node.name: node.input[0] for node in graph.node if node.op == "ReadVariableOp"})
    nodes = [node for node in graph.node if node.op != "ReadVariableOp"]
    results = [node for node in nodes if node.op == "Identity" and "/" not in node.name]
    needed = needed_for(nodes, [name for node in results for name in inputs_of(node)])
    nodes = [node for node in nodes if node.name in needed]
    rename(nodes, names_in_places(nodes))
    return GraphDef(node=nodes, versions=graph.versions)


def inputs_of(node: NodeDef) -> list[str]:
    """The names of the nodes that a node takes a value from."""
    return [name.split(":")[0] for name in node.input]


def rename(nodes: Iterable[NodeDef], names: Mapping[str, str]) -> None:
    """Gives nodes new names, {old: new}, and with them what they are used by."""
    for node in nodes:
        for i, name in enumerate(inputs_of(node)):
            if name in names:
                node.input[i] = node.input[i].replace(name, names[name], 1)
        node.name = names.get(node.name, node.name)


def needed_for(nodes: Iterable[NodeDef], results: Iterable[str]) -> set[str]:
    """The names of the nodes that the results depend on, and of those that change variables."""
    inputs = {node.name: inputs_of(node) for node in nodes}
    waiting = [*results, *(node.name for node in nodes if node.op.startswith(CHANGES))]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += inputs[name]
    return needed


def names_in_places(nodes: list[NodeDef]) -> dict[str, str]:
    """{old: new} names of nodes without a scope that all that uses them, if it is one scope, takes them into."""
    alone = {node.name for node in nodes if "/" not in node.name and node.op != "Placeholder"}
    scopes = {node.name: node.name.split("/")[0] for node in nodes}
    users: dict[str, set[str]] = {}
    for node in reversed(nodes):  # what uses a node stands behind it
        place = scopes[node.name]
        if place in alone:  # the node itself, or a part of it, such as add/y
            around = users.get(node.name, set()) - {place}
            place = around.pop() if len(around) == 1 else ""
            scopes[node.name] = place
        for name in inputs_of(node):
            users.setdefault(name, set()).add(place)
    found = {}
    for node in nodes:
        first = node.name.split("/")[0]
        if first in alone and scopes.get(first):
            found[node.name] = f"{scopes[first]}/{node.name}"
    return found
