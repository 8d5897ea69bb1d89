"""The same network in TensorFlow's high-level APIs, to compare with; the only part of the package that uses Keras."""
