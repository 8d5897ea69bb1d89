"""The layers by hand. Each file has an op as a pure function and, where it owns variables, its `tf.Module`."""
