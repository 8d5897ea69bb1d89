"""Packing of a data set from the command line."""

import argparse

from unet_lowlevel import settings
from unet_lowlevel.cli.arguments import Parser, add_settings, given_settings, run_command
from unet_lowlevel.config import Config
from unet_lowlevel.data.packing import pack
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
    add_settings(parser, *SETTINGS)
    return run_command(pack_as_asked, parser, argv)


def pack_as_asked(arguments: argparse.Namespace) -> None:
    config = settings.check(settings.apply(Config(), given_settings(arguments)))
    try:
        packed = pack(config, arguments.output, arguments.images_per_shard, progress("packing"))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished files are kept; the same command goes on") from None
    source, folder = show_path(config.data.data or config.data.images), show_path(packed.folder)
    say(f"packed {source} into {folder}: use it as --data {folder}")
