"""The precision of Keras layers."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def computing_in(precision: str):
    """Layers created within this context compute in `precision`, "float32" or "bfloat16", with float32 variables."""
    before = tf.keras.config.dtype_policy()
    tf.keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        tf.keras.config.set_dtype_policy(before)
