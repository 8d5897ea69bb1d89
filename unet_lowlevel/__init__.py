"""U-Net for medical image segmentation, written from scratch on TensorFlow's low-level API."""

__version__ = "0.1.0"
