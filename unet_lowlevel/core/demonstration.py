"""An op at work on a tiny input, in print: `python -m unet_lowlevel.core.ops.convolution`, and so for every op.

The op's values are shown beside those of a plain loop, its gradients beside finite differences of that loop, and below
them what oneDNN, the library that computes much of TensorFlow on CPUs, says that it has run.
"""

import contextlib
import inspect
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

WIDTH = 80
DELTA = 1e-5  # Of finite differences.


def array(numbers: str, *shape: int, dtype: str = "float64") -> np.ndarray:
    """array("1 2  3 4", 1, 2, 2, 1): an image of 2 x 2 pixels, as it is read."""
    return np.array(numbers.split(), dtype).reshape(shape)


def show(op: Callable, loop: Callable, *arguments, gradients: bool = True, limit: float = 1e-5) -> None:
    """Prints what an op computes, from the arguments to the gradients.

    The gradients are those of loss = 1 output[0] + 2 output[1] + 3 output[2] + ...: errors in single outputs would
    cancel in a plain sum. TensorFlow computes in float32, as in training, the loop in float64.

    Args:
        op: of the book; its docstring is printed up to the arguments.
        loop: the same in plain Python; its code is printed.
        arguments: of both. Arrays of floats are tensors for the op, and have gradients; others are passed on.
        gradients: False where there are none to check, as in the update of a weight.
        limit: largest difference, relative to the largest value, above 1.

    Raises:
        SystemExit: when the two differ.
    """
    names = list(inspect.signature(op).parameters)
    say(f"{op.__name__}: {described(op)}\n\nInput")
    for name, value in zip(names, arguments, strict=False):
        if isinstance(value, np.ndarray):
            say(indented(f"{name} {list(value.shape)}", *lines_of(value)))
        else:
            say(f"  {name} {value}")
    say(f"\nBy hand ({loop.__module__.replace('.', '/')}.py)")
    say(textwrap.indent(inspect.getsource(loop).rstrip(), "    "))

    places = [i for i, value in enumerate(arguments) if is_float(value)]
    tensors = [tf.constant(value, tf.float32) if is_float(value) else value for value in arguments]
    with onednn_lines() as forward, tf.GradientTape() as tape:
        tape.watch([tensors[i] for i in places])
        outputs = tf.nest.flatten(op(*tensors))
    expected = [np.asarray(value, np.float64) for value in tf.nest.flatten(loop(*arguments))]
    same = [beside("\nOutput", a, b.numpy(), limit) for a, b in zip(expected, outputs, strict=True)]

    backward: list[str] = []
    if gradients:
        with tape:
            loss = tf.add_n([tf.reduce_sum(shares_of(output.shape).astype(np.float32) * output) for output in outputs])
        with onednn_lines() as backward:
            slopes = tape.gradient(loss, [tensors[i] for i in places], unconnected_gradients="zero")
        say("\nGradients of loss = 1 output[0] + 2 output[1] + 3 output[2] + ...")
        for i, slope in zip(places, slopes, strict=True):
            differences = finite_differences(loop, arguments, i)
            same.append(beside(f"  {names[i]}", differences, slope.numpy(), limit, by="finite differences"))
    say("\nWhat oneDNN ran of it (ONEDNN_VERBOSE=1)")
    say(indented(*(onednn_text("forward", forward) + (onednn_text("gradient", backward) if gradients else []))))
    say("")
    if not all(same):
        sys.exit(f"{op.__name__} is not what the loop computes.")


def say(text: str) -> None:
    """Prints lines. Not by `terminal.say`: the book imports no tool."""
    print(text, flush=True)


def indented(*lines: str) -> str:
    return textwrap.indent("\n".join(lines), "  ")


def described(op: Callable) -> str:
    """An op's docstring before the arguments: equations line by line, the rest filled."""
    text = inspect.cleandoc(op.__doc__ or "").partition("\n\nArgs:")[0].partition("\n\nReturns:")[0]
    first, *others = text.split("\n\n")
    found = [textwrap.fill(f"{op.__name__}: {first}", WIDTH).removeprefix(f"{op.__name__}: ")]
    for paragraph in others:
        lines = paragraph.splitlines()
        if all("=" in line for line in lines):
            found.append("\n".join(textwrap.fill(f"    {line}", WIDTH, subsequent_indent=" " * 8) for line in lines))
        else:
            found.append(textwrap.fill(" ".join(lines), WIDTH))
    return "\n\n".join(found)


def is_float(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def lines_of(value: np.ndarray) -> list[str]:
    """The numbers of an array as lines of columns, without the axes of length 1; three axes: a block a channel."""
    values = np.squeeze(value)
    if values.ndim == 3:
        blocks = [lines_of(values[..., c]) for c in range(values.shape[-1])]
        return [line for c, block in enumerate(blocks) for line in [f"  channel {c}", *block]]
    cells = [[f"{round(float(cell), 6) + 0.0:.4g}" for cell in row] for row in np.atleast_2d(values)]
    width = max(len(cell) for row in cells for cell in row)
    return ["  " + " ".join(cell.rjust(width) for cell in row) for row in cells]


def beside(title: str, expected: np.ndarray, found: np.ndarray, limit: float, by: str = "by hand") -> bool:
    """Prints two arrays side by side, and returns whether they are the same up to rounding."""
    say(f"{title} {list(expected.shape)}" if expected.ndim else title)
    left, right = [by, *lines_of(expected)], ["by TensorFlow", *lines_of(found)]
    say(indented(*(f"  {a.ljust(WIDTH // 2 - 4)}{b}".rstrip() for a, b in zip(left, right, strict=True))))
    difference = float(np.abs(expected - found).max())
    same = difference <= limit * max(1.0, float(np.abs(expected).max()))
    say(indented(f"  largest difference {difference:.1g}{'' if same else ': THEY DIFFER'}"))
    return same


def shares_of(shape) -> np.ndarray:
    """1, 2, 3, ... in the shape of an output."""
    return np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)


def finite_differences(loop: Callable, arguments: tuple, i: int) -> np.ndarray:
    """(loss(a + DELTA) - loss(a - DELTA)) / (2 DELTA) for each value a of an argument, float64."""
    slopes = np.zeros(arguments[i].shape)
    for place in np.ndindex(slopes.shape):
        losses = []
        for move in (DELTA, -DELTA):
            moved = arguments[i].copy()
            moved[place] += move
            outputs = tf.nest.flatten(loop(*arguments[:i], moved, *arguments[i + 1 :]))
            losses.append(sum(float(np.sum(shares_of(np.shape(output)) * output)) for output in outputs))
        slopes[place] = (losses[0] - losses[1]) / (2 * DELTA)
    return slopes


@contextlib.contextmanager
def onednn_lines() -> Iterator[list[str]]:
    """A list that holds, once the block is left, what oneDNN says of each primitive that it has run there.

    oneDNN looks into the environment when it runs for the first time, and writes to the process's own stdout, of which
    Python knows nothing: for the length of the block it is a file.
    """
    os.environ["ONEDNN_VERBOSE"] = "1"
    lines: list[str] = []
    sys.stdout.flush()
    stdout = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            yield lines
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
            file.seek(0)
            lines += [line for line in file.read().decode().splitlines() if ",exec," in line]


def onednn_text(what: str, lines: list[str]) -> list[str]:
    """Its lines within the width; where there are none, why."""
    if lines:
        folded = [textwrap.wrap(line.replace(",", ", "), WIDTH - 6, subsequent_indent="  ") for line in lines]
        return [f"{what}:", *(f"  {part}".replace(", ", ",") for parts in folded for part in parts)]
    with onednn_lines() as others:
        tf.nn.conv2d(tf.ones([1, 4, 4, 1]), tf.ones([3, 3, 1, 1]), 1, "SAME")
    if others:
        return [f"{what}: nothing; TensorFlow's own kernels compute it, most of them by Eigen"]
    return [f"{what}: nothing; here TensorFlow does not use oneDNN at all"]
