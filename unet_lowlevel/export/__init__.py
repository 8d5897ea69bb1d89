"""From a run folder to a file that predicts without this package."""

# {--format: what it is}
FORMS = {
    "saved_model": "a folder for TensorFlow and TensorFlow Serving",
    "onnx": "a file for ONNX Runtime, OpenVINO and others",
    "litert": "a .tflite file for LiteRT, on phones and small computers",
    "bioimageio": "a package (.zip) for Fiji (deepImageJ), napari and ilastik",
    "keras": "a .keras file for plain Keras",
}
# {--quantize: what it is}
QUANTIZED = {
    "none": "float32 weights",
    "float16": "weights stored in half the space",
    "dynamic": "weights stored as int8, in a quarter of the space",
    "int8": "weights and features of all convolutions in int8, calibrated on training images",
}
