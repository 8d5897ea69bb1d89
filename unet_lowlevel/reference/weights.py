"""Copies weights from one implementation to another: by name, bit for bit, all or none."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel.core.unet import UNet
from unet_lowlevel.disk import put_in_place
from unet_lowlevel.errors import UserError, listed, reason
from unet_lowlevel.geometry import smallest_valid_size


def layer_variables(layer: tf.keras.layers.Layer, scope: str) -> dict[str, tf.Variable]:
    """The variables of a Keras layer under the names that the low-level network gives them.

    The layers' filters have the same axes as ours, [height, width, in, out] and for the transposed
    convolution [height, width, out, in]; only their name differs, "kernel" for "weight".

    Args:
        layer: a convolution, a transposed convolution or a batch normalization.
        scope: first part of the names, such as "encoder/level_1/conv_1".

    Returns:
        {"encoder/level_1/conv_1/weight": variable, ...}
    """
    spelled = {"kernel": "weight"}
    return {f"{scope}/{spelled.get(variable.name, variable.name)}": variable.value for variable in layer.weights}


def model_variables(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """The variables of a Keras model whose layers are named after our scopes, "." for "/"; see `layer_variables`."""
    found = {}
    for layer in model.layers:
        found |= layer_variables(layer, layer.name.replace(".", "/"))
    return found


def transfer(source: Mapping[str, tf.Variable], target: Mapping[str, tf.Variable], origin: str) -> None:
    """Copies every variable of `source` to that of the same name in `target`.

    Args:
        source, target: {name: variable}, as `UNet.named_variables` gives them.
        origin: the name of the source in messages, for example a file's name.

    Raises:
        UserError: for a missing, an extra or a misshapen variable; then nothing was copied.
    """
    remedy = "use weights of the same network, with the same depth, channels and normalization"
    missing, extra = sorted(target.keys() - source.keys()), sorted(source.keys() - target.keys())
    if missing:
        raise UserError(f"{origin} lacks {listed(missing)}: {remedy}.")
    if extra:
        raise UserError(f"{origin} has {listed(extra)}, which the network lacks: {remedy}.")
    for name, variable in target.items():
        theirs, ours = ("x".join(map(str, v.shape)) + f" {v.dtype.name}" for v in (source[name], variable))
        if theirs != ours:
            raise UserError(f"{origin} has {name} of {theirs}, but the network needs {ours}: {remedy}.")
    for name, variable in target.items():
        variable.assign(source[name])


def write_keras(network: tf.keras.Model, path: Path) -> None:
    """Writes a model as a .keras file, completely or not at all, in place of an existing one; see `put_in_place`."""
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    network.save(temporary)
    put_in_place(temporary, path)


def read_keras(path: Path) -> tf.keras.Model:
    """The model in a .keras file, as Keras reads it; code in the file is not run.

    Raises:
        UserError: when there is no such file, or Keras cannot read it.
    """
    if path.suffix != ".keras":
        raise UserError(f"{path} is no .keras file: name a model that Keras saved as NAME.keras.")
    if not path.is_file():
        raise UserError(f"{path} does not exist: name a .keras file.")
    try:
        return tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file raises anything
        raise UserError(
            f"{path} cannot be read as a Keras model ({reason(error)}): save it anew from Keras."
        ) from error


def load_keras(path: Path, unet: UNet) -> None:
    """Loads the weights of a .keras file into our network, and checks that both compute the same.

    Raises:
        UserError: when the file cannot be read or holds another network; then nothing has changed.
    """
    model, variables = read_keras(path), unet.named_variables()
    before = {name: variable.numpy() for name, variable in variables.items()}
    transfer(model_variables(model), variables, str(path))
    if not computes_the_same(model, unet):
        for name, variable in variables.items():
            variable.assign(before[name])
        raise UserError(
            f"{path} has the weights of this network but computes something else with them: give it the run's "
            "activation and padding, and logits as output."
        )


def computes_the_same(model: tf.keras.Model, unet: UNet) -> bool:
    """Whether both give the same logits: equal weights may still be connected in another way."""
    config = unet.config
    side = smallest_valid_size(config) if config.padding == "valid" else 2 ** (config.depth - 1)
    try:
        height, width = (known or side for known in model.input_shape[1:3])
        probe = tf.random.stateless_normal([1, height, width, config.in_channels], [0, 0])
        theirs, ours = model(probe, training=False), unet(probe, training=False)
    except Exception:  # Keras raises anything for a size that does not fit the model
        return False
    return theirs.shape == ours.shape and np.allclose(theirs, ours, rtol=0, atol=1e-3 * np.max(np.abs(ours)))
