"""A run as a bioimage.io package, for Fiji (deepImageJ), napari and ilastik: the ONNX file and what describes it.

Reference: the specification of models, version 0.5, https://bioimage-io.github.io/spec-bioimage-io.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bioimageio.spec import save_bioimageio_package
from bioimageio.spec.model import v0_5 as spec

from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.export.onnx_file import write_onnx
from unet_lowlevel.export.onnx_graph import OPSET
from unet_lowlevel.inference.predictor import Prediction, Predictor

PAPER = "Ronneberger, Fischer and Brox 2015: U-Net: Convolutional Networks for Biomedical Image Segmentation"
PAPER_DOI = "10.1007/978-3-319-24574-4_28"


def write_bioimage(
    model: UNet,
    predictor: Predictor,
    path: Path,
    *,
    name: str,
    authors: Sequence[str],
    spdx: str,
    card: str,
    image: np.ndarray,
    expected: Prediction,
) -> None:
    """Writes a package (.zip) of one input, images [batch, y, x, channel] as stored, and the outputs of `write_onnx`.

    Args:
        model, predictor: see `write_onnx`.
        path: of the new file.
        name, authors, spdx: of the model; the last is its licence, see `checked_license`.
        card: the documentation, in Markdown.
        image: [H, W, C], with which the package is tested.
        expected: what the run predicts for it.
    """
    config = predictor.config
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_onnx(model, predictor, place / "weights.onnx")
        (place / "README.md").write_text(card, encoding="utf-8")
        tensors = {
            "images": image[np.newaxis].astype(np.float32),
            "probabilities": expected.probabilities[np.newaxis],
            "mask": expected.mask[np.newaxis],
        }
        for tensor, values in tensors.items():
            np.save(place / f"{tensor}.npy", values)
        described = spec.ModelDescr(
            name=f"U-Net {name}",  # of five letters or more
            description="U-Net that tells foreground from background: the probability of the foreground, and a mask"
            if config.model.classes == 1
            else f"U-Net that segments images into {config.model.classes} classes, the background included",
            authors=[spec.Author(name=author) for author in authors],
            cite=[spec.CiteEntry(text=PAPER, doi=spec.Doi(PAPER_DOI))],
            license=spec.LicenseId(spdx),
            documentation=spec.FileDescr(source=place / "README.md"),
            inputs=[
                spec.InputTensorDescr(
                    id=spec.TensorId("images"),
                    axes=axes(config.model.in_channels, spec.SpaceInputAxis),
                    test_tensor=spec.FileDescr(source=place / "images.npy"),
                    data=spec.IntervalOrRatioDataDescr(type="float32"),
                )
            ],
            outputs=[
                spec.OutputTensorDescr(
                    id=spec.TensorId(tensor),
                    axes=axes(channels, spec.SpaceOutputAxis),
                    test_tensor=spec.FileDescr(source=place / f"{tensor}.npy"),
                    data=spec.IntervalOrRatioDataDescr(type=kind),
                )
                for tensor, channels, kind in (
                    ("probabilities", config.model.classes, "float32"),
                    ("mask", 0, "uint8"),
                )
            ],
            weights=spec.WeightsDescr(onnx=spec.OnnxWeightsDescr(source=place / "weights.onnx", opset_version=OPSET)),
        )
        save_bioimageio_package(described, output_path=path)


def checked_license(license: str) -> str:
    """The licence itself, or a `UserError` if it is no SPDX identifier."""
    try:
        spec.LicenseId(license)
    except ValueError:
        given = license or "not given"
        raise UserError(
            f"--license is {given}, but bioimage.io knows SPDX identifiers only: name CC-BY-4.0, or another."
        ) from None
    return license


def axes(channels: int, side: type) -> list[Any]:
    """Of a tensor [batch, y, x, channel], without channels where there are 0; outputs have the sides of the images."""
    sizes = {
        name: spec.ParameterizedSize(min=1, step=1)
        if side is spec.SpaceInputAxis
        else spec.SizeReference(tensor_id=spec.TensorId("images"), axis_id=spec.AxisId(name))
        for name in ("y", "x")
    }
    found = [spec.BatchAxis(), *(side(id=spec.AxisId(name), size=size) for name, size in sizes.items())]
    names = [spec.Identifier(f"channel{k}") for k in range(channels)]
    return [*found, spec.ChannelAxis(channel_names=names)] if channels else found
