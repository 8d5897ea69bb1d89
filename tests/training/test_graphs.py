"""Graphs for people: what stands in them, and under which name."""

import tensorflow as tf
from tiny_training import tiny_config

from unet_lowlevel.core import fast
from unet_lowlevel.training.graphs import inputs_of, readable_graph
from unet_lowlevel.training.steps import train_step


def test_the_graph_of_the_network_is_the_network():
    """Its variables under their own names, a concatenation a level, and no node that is only plumbing."""
    config = tiny_config().model
    model = fast.network(config)
    signature = [tf.TensorSpec([None, 16, 16, 1], name="images")]
    graph = readable_graph(
        tf.function(lambda images: model.forward(images, training=False), signature, autograph=False)
    )
    nodes = {node.name: node for node in graph.node}
    assert set(model.named_variables()) < set(nodes)
    assert {name.split("/")[0] for name in nodes} == {"images", "encoder", "bottleneck", "decoder", "output"}
    concatenations = {name for name, node in nodes.items() if node.op == "ConcatV2"}
    assert concatenations == {f"decoder/level_{i}/concat" for i in range(1, config.depth)}
    assert "encoder/level_1/Elu_1" in inputs_of(nodes["decoder/level_1/concat"])
    assert inputs_of(nodes["encoder/level_1/conv_1/Conv2D"]) == ["images", "encoder/level_1/conv_1/weight"]
    assert not {node.op for node in graph.node} & {"ReadVariableOp", "Identity", "NoOp"}


def test_the_graph_of_the_step_is_whole_and_everything_has_its_place():
    config = tiny_config(dropout_rate=0.2)
    model = fast.network(config.model)
    step = train_step(model, config, (16, 16), 10)
    graph = readable_graph(step.compiled)
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node)
    assert all(name in nodes for node in graph.node for name in inputs_of(node))
    assert set(model.trained_variables()) < set(nodes)
    updates = [node for node in graph.node if node.op == "ResourceApplyAdam"]
    assert {inputs_of(node)[0] for node in updates} == set(model.trained_variables())
    places = {name.split("/")[0] for name in nodes}
    places -= {"images", "labels", "step", "encoder", "bottleneck", "decoder", "output"}
    assert places == {"parts_of_batch", "dropout_seed", "loss", "counts", "gradient_tape", "optimizer"}
