"""Packing of a data set from the command line."""

import argparse
import functools

from unet_lowlevel import settings
from unet_lowlevel.cli.arguments import (
    Parser,
    add_cluster,
    add_settings,
    check_cluster,
    given_settings,
    run_command,
)
from unet_lowlevel.config import Config
from unet_lowlevel.data.packing import pack
from unet_lowlevel.data.packing_by_ray import pack_by_ray
from unet_lowlevel.terminal import progress, say, show_path

SETTINGS = [
    *("data", "images", "masks", "instances", "channels", "mask_values", "mask_colors", "ignore_value"),
    *("max_megapixels", "nan", "classes", "loss", "weight_map", "weight_map_w0", "weight_map_sigma"),
]


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        "Packs images and masks into a few large files, for data sets of many images, and for disks that are reached "
        "over a network. All commands take the folder as --data. After an interruption the same command goes on.",
        "pack",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="new folder")
    parser.add_argument(
        "--images-per-shard", metavar="N", type=int, default=512, help="images in one file (default: %(default)s)"
    )
    add_cluster(parser)
    add_settings(parser, *SETTINGS)
    return run_command(pack_as_asked, parser, argv)


def pack_as_asked(arguments: argparse.Namespace) -> None:
    check_cluster(arguments)
    config = settings.check(settings.apply(Config(), given_settings(arguments)))
    by_ray = functools.partial(pack_by_ray, workers=arguments.workers or 0) if arguments.cluster else None
    try:
        packed = pack(config, arguments.output, arguments.images_per_shard, progress("packing"), by_ray)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished files are kept; the same command goes on") from None
    source, folder = show_path(config.data.data or config.data.images), show_path(packed.folder)
    say(f"packed {source} into {folder}: use it as --data {folder}")
