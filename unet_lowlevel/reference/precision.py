"""The precision of Keras layers."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def computing_in(precision: str):
    """Layers created within this context compute in `precision`, such as "bfloat16", with float32 variables."""
    before = tf.keras.config.dtype_policy()
    tf.keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        tf.keras.config.set_dtype_policy(before)
