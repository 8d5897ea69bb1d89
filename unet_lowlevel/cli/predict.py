"""Prediction from the command line."""

import argparse
import contextlib
import functools
import hashlib
from pathlib import Path

from unet_lowlevel import settings
from unet_lowlevel.cli.arguments import (
    Parser,
    add_cluster,
    add_runs,
    add_settings,
    check_cluster,
    check_runs,
    given_settings,
    run_command,
    run_named,
)
from unet_lowlevel.errors import UserError, listed
from unet_lowlevel.inference import FORMATS, OUTLINES, TILE_SIZE
from unet_lowlevel.inference.images import WHOLE, find_images, images_of, local, place_of, shard_of, unused
from unet_lowlevel.machine import images_at_once, start_tensorflow
from unet_lowlevel.packages import optional_package
from unet_lowlevel.terminal import complain, note, progress, say, show_path
from unet_lowlevel.training.interruption import Stopped

# Settings of the run that may change for another machine or another source of images.
CHANGES = ("channels", "max_megapixels", "nan")


def main(argv: list[str] | None = None, *, by_keras: bool = False) -> int:
    """The command; returns its exit code. `by_keras`: Keras predicts, whichever implementation was trained."""
    parser = Parser(
        "Segments images with a trained run: writes <stem>.png masks of the images' sizes, and for volumes (TIFF "
        "stacks, NIfTI files, DICOM series) volumes of the same geometry.",
        "predict",
    )
    if by_keras:
        parser.add_argument(
            "--run", metavar="DIR", required=True, type=run_named, help="run folder that training wrote, or demo"
        )
        parser.add_argument("--model", metavar="FILE", help="weights of this .keras file instead of the run's")
    else:
        add_runs(parser)
    parser.add_argument(
        "--images",
        metavar="PATH",
        nargs="+",
        required=True,
        type=place_of,
        help="image files or volumes, folders of them, packed data, or lists of such names (.txt, one a line)",
    )
    parser.add_argument(
        "--output", metavar="DIR", required=True, type=local, help="folder for the masks; nothing is overwritten"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with a prediction that was stopped, or whose images are mended; the other flags as before",
    )
    parser.add_argument(
        "--tile-size",
        metavar="N",
        type=int,
        default=TILE_SIZE,
        help="side in pixels of what is computed at once: larger images are computed in tiles, with the same result; "
        f"a smaller one takes less memory and more time (default: {TILE_SIZE})",
    )
    parser.add_argument("--probabilities", action="store_true", help="also write 16-bit <stem>_probability.png")
    parser.add_argument(
        "--instances",
        dest="with_instances",
        action="store_true",
        help="also write 16-bit <stem>_instances.png, a number for each object, of a volume in each slice anew; and "
        "what is measured of them: <stem>_instances.csv, and of all images together objects.csv and summary.csv",
    )
    parser.add_argument(
        "--pixel-size",
        metavar="X",
        type=float,
        help="side of a pixel in micrometres: --instances then also measures in these (default: of NIfTI and DICOM "
        "volumes in millimetres, as they say; else in pixels only)",
    )
    parser.add_argument(
        "--objects-as",
        metavar="LIST",
        help="also write the outlines of --instances, as any of: geojson (<stem>_objects.geojson, for QuPath), roi "
        "(<stem>_rois.zip, for Fiji), coco (<stem>_coco.json, and coco.json of all images)",
    )
    parser.add_argument("--overlays", action="store_true", help="also write <stem>_overlay.png")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="of the masks. auto: as the images are, and of DICOM images a DICOM segmentation (.dcm), whose "
        "probabilities and instances are NIfTI or PNG; nifti: of all volumes .nii.gz; png: of each image and slice PNG "
        "(default: auto)",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        default="0/1",
        type=shard_of,
        help="only part I, from 0 to N - 1, of the images: for the jobs of an array, which write into one folder; at "
        "last the same command with --resume and without --shard sees to what is missing",
    )
    add_cluster(parser)
    add_settings(parser, *CHANGES)
    parser.set_defaults(by_keras=by_keras)
    return run_command(predict, parser, argv)


def predict(arguments: argparse.Namespace) -> int:
    """Predicts the images and prints the result; returns exit code 3 if some of them could not be used."""
    if arguments.tile_size < 1:
        raise UserError(f"--tile-size is {arguments.tile_size}, but must be at least 1: use for example 1024.")
    if arguments.pixel_size is not None and not 1e-6 <= arguments.pixel_size <= 1e6:
        raise UserError(
            f"--pixel-size is {arguments.pixel_size:g}, but must be from 1e-06 to 1e+06 micrometres: use for example 1."
        )
    objects_as = list(dict.fromkeys(name.strip() for name in (arguments.objects_as or "").split(",") if name.strip()))
    for name in objects_as:
        if name not in OUTLINES:
            raise UserError(f"--objects-as {name} is unknown: name any of {', '.join(OUTLINES)}.")
    for flag, value in (("--pixel-size", arguments.pixel_size), ("--objects-as", arguments.objects_as)):
        if value and not arguments.with_instances:
            raise UserError(f"{flag} {value} is for objects: add --instances, or leave it out.")
    if "roi" in objects_as:
        optional_package("roifile", "--objects-as roi", "formats")
    check_cluster(arguments)
    check_runs(arguments.run)
    mistakes: list[str] = []
    images = find_images(arguments.images, lambda mistake: mistakes.append(str(mistake)))
    for name in arguments.images:
        if others := unused(name, images, mistakes):
            note(f"{name} holds {listed(others)}, which prediction does not use")
    everything = sorted(images)
    if arguments.shard != WHOLE:
        images = images_of(arguments.shard, images)
        mistakes = mistakes if arguments.shard.index == 0 else []  # one names what none can use
    start_tensorflow(images_at_once(len(images)))
    from unet_lowlevel.inference.folders import predict_files
    from unet_lowlevel.inference.model_card import note_unfinished

    if arguments.cluster:
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow runs already
            tf.config.set_visible_devices([], "GPU")  # they are for the workers
    predictor = predictor_of(arguments)
    note_unfinished([arguments.run] if arguments.by_keras else arguments.run)
    chosen = settings_of_masks(arguments)
    if arguments.shard != WHOLE:  # shards of other images would be others
        digest = hashlib.sha256("\n".join(everything).encode()).hexdigest()
        chosen["collection"] = f"{len(everything)} images, {digest[:12]}"
    try:
        done = predict_files(
            predictor,
            images,
            Path(arguments.output),
            with_probabilities=arguments.probabilities,
            separation=predictor.separation if arguments.with_instances else None,
            pixel_size=arguments.pixel_size,
            objects_as=objects_as,
            with_overlays=arguments.overlays,
            file_format=arguments.format,
            settings=chosen,
            resume=arguments.resume,
            shard=arguments.shard,
            failures=mistakes,
            progress=progress("predicting", "images", log=True),
            workers=by_cluster(arguments) if arguments.cluster else None,
        )
    except Stopped as stopped:
        complain(
            f"stopped by {stopped.signal.name}; {stopped.step} of {len(images)} images are written now, the same "
            "command with --resume goes on"
        )
        raise
    total = len(images) + len(mistakes)
    if not done.written and not done.there and done.failures:
        others = f" The other {total - 1} cannot be used either." if total > 1 else ""
        raise UserError(done.failures[0] + others)
    there = f"; {done.there} were there" if done.there else ""
    say(f"wrote masks of {done.written} images to {show_path(arguments.output)}{there}")
    if not done.failures:
        return 0
    unusable = total - done.written - done.there
    complain("\n".join([f"{unusable} of {total} images could not be used:", *done.failures]))
    complain("mend them, and the same command with --resume predicts them too")
    return 3


def settings_of_masks(arguments: argparse.Namespace) -> dict[str, object]:
    """All that changes masks, for `unfinished.goes_on`: flags, and a digest of the weights and settings of the runs.

    Not the flags of `CHANGES`, which only let in more images.
    """
    from unet_lowlevel.training.checkpoints import listed_in

    files = [Path(arguments.model)] if arguments.by_keras and arguments.model else []
    for run in map(Path, [arguments.run] if arguments.by_keras else arguments.run):
        weights = [Path(f"{path}.index") for path in listed_in(run / "best")]  # which hold checksums of them
        chosen = (run / "config.json", run / "threshold.json", run / "instances.json")
        files += [file for file in (*chosen, *weights) if file.is_file()]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    flags = ("run", "images", "probabilities", "with_instances", "pixel_size", "overlays", "format", "average")
    flags += ("plain", "model", "objects_as")
    return {name: getattr(arguments, name, None) for name in flags} | {"weights": digest.hexdigest()}


def predictor_of(arguments: argparse.Namespace):
    """The `Predictor` that the flags ask for."""
    from unet_lowlevel.inference.predictor import load

    if arguments.by_keras:
        from unet_lowlevel.reference.keras_unet import KerasUNet
        from unet_lowlevel.reference.weights import load_keras

        predictor = load(arguments.run, tile_size=arguments.tile_size, network=KerasUNet)
        if arguments.model:
            load_keras(Path(arguments.model), predictor.networks[0].model)
    else:
        predictor = load(arguments.run, average=arguments.average, tile_size=arguments.tile_size, plain=arguments.plain)
    given = {name: value for name, value in given_settings(arguments).items() if name in CHANGES}
    predictor.config = settings.apply(predictor.config, given)
    return predictor


def by_cluster(arguments: argparse.Namespace):
    """What predicts by the workers that the flags ask for, see `folders.Workers`."""
    from unet_lowlevel.inference.collection import predict_by_ray

    load = functools.partial(predictor_of, arguments)
    return functools.partial(predict_by_ray, workers=arguments.workers or 0, load=load)
