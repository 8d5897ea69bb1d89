"""A trained run in other forms, for those who do not have this package."""

import argparse
import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unet_lowlevel.cli.arguments import Parser, add_average, run_command, run_named
from unet_lowlevel.config import Config
from unet_lowlevel.data.files import find_pairs, read_image
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.formats.writing import refuse_existing, written_whole
from unet_lowlevel.errors import UserError
from unet_lowlevel.export import FORMS, QUANTIZED
from unet_lowlevel.machine import quiet, start_tensorflow
from unet_lowlevel.packages import optional_package
from unet_lowlevel.run_folder import read
from unet_lowlevel.terminal import note, say, show_path

# {--format: packages that it needs beyond TensorFlow}
PACKAGES = {"onnx": ("onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}
PACKAGES["bioimageio"] = ("bioimageio", *PACKAGES["onnx"])
SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "bioimageio": ".zip", "keras": ".keras"}


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Writes the best network of a run, with all that happens to an image before and after it, for those who do not "
        "have this package: images as stored in, probabilities and mask out. What was written is opened again, and "
        "predicts a held-out image.",
        "export",
    )
    parser.add_argument(
        "--run", metavar="DIR", required=True, type=run_named, help="run folder that training wrote, or demo"
    )
    forms = "; ".join(f"{name}: {text}" for name, text in FORMS.items())
    parser.add_argument("--format", choices=FORMS, required=True, help=forms)
    parser.add_argument("--output", metavar="PATH", required=True, help="new file, or new folder of a saved_model")
    kinds = "; ".join(f"{name}: {text}" for name, text in QUANTIZED.items())
    parser.add_argument("--quantize", choices=QUANTIZED, default="none", help=f"of litert. {kinds} (default: none)")
    parser.add_argument(
        "--with-preprocessing",
        action="store_true",
        help="of keras: images as stored in, probabilities and mask out, as of the other forms (default: logits of "
        "normalized images, to go on training)",
    )
    add_average(parser)
    parser.add_argument(
        "--license",
        metavar="TEXT",
        default="",
        help="of the weights, for the model card; of bioimageio such as CC-BY-4.0",
    )
    parser.add_argument("--authors", metavar="NAME", nargs="+", help="of the model, for bioimageio")
    return run_command(export, parser, argv)


def export(arguments: argparse.Namespace) -> None:
    form, output = arguments.format, Path(arguments.output)
    suffix = SUFFIXES.get(form, "")
    if suffix and output.suffix != suffix:
        raise UserError(f"--output is {output}, but must end in {suffix}, by which --format {form} is known.")
    for flag, given, allowed in (
        ("--quantize", arguments.quantize != "none", "litert"),
        ("--with-preprocessing", arguments.with_preprocessing, "keras"),
        ("--authors", arguments.authors, "bioimageio"),
    ):
        if given and form != allowed:
            raise UserError(f"{flag} does not go with --format {form}: leave it out, or export {allowed}.")
    if form == "bioimageio" and not arguments.authors:
        raise UserError(
            "--authors is not given, but a package of bioimage.io names them: add for example 'Ada Lovelace'."
        )
    for name in PACKAGES.get(form, ()):
        optional_package(name, f"--format {form}", "export")
    images = images_of(Path(arguments.run))
    card = output / "model_card.md" if form == "saved_model" else output.with_name(f"{output.name}_model_card.md")
    for path in (output, card, card.with_suffix(".json")):
        refuse_existing(path)
    if arguments.quantize == "int8" and not images["training"]:
        raise UserError("--quantize int8 needs images of the training, which are gone: restore them, or use float16.")
    network_alone = form == "keras" and not arguments.with_preprocessing
    if network_alone and arguments.average == "flips":
        raise UserError(
            "--average-flips averages probabilities, but --format keras gives logits: add --with-preprocessing."
        )
    start_tensorflow()
    from unet_lowlevel.export.model_card import exported_card, quantized
    from unet_lowlevel.inference.model_card import note_unfinished, planned, write_card
    from unet_lowlevel.inference.predictor import load

    planned(Path(arguments.run))
    note_unfinished([arguments.run])
    if form == "bioimageio":
        from unet_lowlevel.export.bioimage import checked_license

        checked_license(arguments.license)
    model = load(arguments.run, plain=True, precision="float32").networks[0].model

    @functools.cache  # of what takes a while, and is only needed when all else has gone well
    def facts() -> dict:
        return exported_card(
            Path(arguments.run),
            form=f"{FORMS[form][0].upper()}{FORMS[form][1:]}.",
            average=arguments.average,
            scored=bool(images["validation"]),
            license=arguments.license,
        )

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(output, suffix or ".tmp") as unfinished:
            if network_alone:
                told = export_keras(arguments.run, unfinished)
            else:
                told = export_whole(arguments, unfinished, model, images, facts)
    except OSError as error:
        raise UserError(f"--output {output} cannot be written ({error.strerror}): choose another place.") from None
    say(f"wrote {show_path(output)}: {told}")
    in_and_out = {"input": "images as the network sees them", "output": told} if network_alone else {}
    of_form = facts() | {"agreement": told} | in_and_out
    write_card(of_form if arguments.quantize == "none" else quantized(of_form, arguments.quantize, told), card)
    say(f"wrote {show_path(card)}: what the network was shown, and how well it does")


def images_of(run: Path) -> dict[str, list[Path | Slice]]:
    """The images of each part of the split, {training, validation}; none of a part if one of them is gone."""
    config, _, split = read(run)
    found: dict[str, Path | Slice] = {}
    with contextlib.suppress(UserError):
        found = {pair.stem: pair.image for pair in find_pairs(config.data)}
    return {
        part: [found[stem] for stem in stems] if found.keys() >= set(stems) else [] for part, stems in split.items()
    }


def export_whole(arguments: argparse.Namespace, path: Path, model, images: dict, facts: Callable[[], dict]) -> str:
    """Writes the form, opens it, and compares it with the run on a held-out image; `model` is the run's, not folded."""
    from unet_lowlevel.export.parity import OPENED, check_parity
    from unet_lowlevel.inference.predictor import load

    predictor = load(arguments.run, average=arguments.average, precision="float32")
    image = checked_image(images["validation"], predictor.config)
    expected = predictor.predict(image)
    if arguments.format == "saved_model":
        from unet_lowlevel.export.saved_model import write_saved_model

        write_saved_model(predictor, path)
    elif arguments.format == "litert":
        from unet_lowlevel.export.litert import read_some, write_litert

        calibration = read_some(images["training"], predictor.config) if arguments.quantize == "int8" else []
        with quiet():
            write_litert(predictor, path, arguments.quantize, calibration)
    elif arguments.format == "bioimageio":
        from unet_lowlevel.export.bioimage import write_bioimage
        from unet_lowlevel.inference.model_card import markdown

        write_bioimage(
            model,
            predictor,
            path,
            name=facts()["name"],
            authors=arguments.authors,
            spdx=arguments.license,
            card=markdown(facts()),
            image=image,
            expected=expected,
        )
    elif arguments.format == "keras":
        from unet_lowlevel.reference.keras_whole import write_whole_keras

        write_whole_keras(arguments.run, predictor, path)
    else:
        from unet_lowlevel.export.onnx_file import write_onnx

        write_onnx(model, predictor, path)
    with quiet():
        return check_parity(OPENED[arguments.format](path), image, expected, arguments.quantize)


def checked_image(images: list[Path | Slice], config: Config) -> np.ndarray:
    """The first held-out image [H, W, C]; noise if there is none any more."""
    if images:
        return read_image(images[0], config.data)
    note("no held-out image is left, so that what was exported is tried on noise")
    return np.random.default_rng(0).integers(0, 256, (97, 131, config.model.in_channels)).astype(np.uint8)


def export_keras(run: str, path: Path) -> str:
    """Writes a .keras file of Keras' own layers."""
    from unet_lowlevel.inference.predictor import load
    from unet_lowlevel.reference.keras_unet import KerasUNet
    from unet_lowlevel.reference.weights import write_keras

    predictor = load(run, network=KerasUNet)
    network, data = predictor.networks[0].model.network, predictor.config.data
    write_keras(network, path)
    size = f"{data.image_size} pixels a side" if data.image_size else f"{data.resolution:g} of their sides"
    first = f"resized to {size} by the mean of the area, then " if data.resizes else ""
    return f"logits of images {first}normalized as the run's config.json says"
