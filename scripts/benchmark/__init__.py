"""Ours beside Keras, PyTorch, ONNX Runtime and OpenVINO: run as `python scripts/benchmark`."""
