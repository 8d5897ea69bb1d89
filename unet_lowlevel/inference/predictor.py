"""Prediction with a trained run: images in, masks out."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from unet_lowlevel import metrics, run_folder
from unet_lowlevel.data.files import list_images, read_image, refuse_existing, write_image
from unet_lowlevel.data.samples import normalize
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.folding import folded
from unet_lowlevel.losses import probabilities
from unet_lowlevel.pictures import overlay
from unet_lowlevel.training.checkpoints import restore_best
from unet_lowlevel.unet import UNet


class Predictor:
    """The best network of a run, ready to segment images; all settings come from the run folder."""

    def __init__(self, run: Path, network: type[UNet] | None = None):
        """Restores the network.

        Args:
            run: the run folder, whichever implementation was trained.
            network: the implementation that predicts; None: ours, folded and frozen.

        Raises:
            UserError: when `run` is no run folder or holds no weights that fit.
        """
        self.config, _, self.split = run_folder.read(run)
        model = (network or UNet)(self.config.model, seed=self.config.training.seed)
        restore_best(model, run)
        self.model = model if network else folded(model)
        self.compiled = tf.function(
            lambda images: probabilities(self.model.whole(images)),
            input_signature=[tf.TensorSpec([None, None, None, self.config.model.in_channels], tf.float32)],
            autograph=False,
        )

    def check_channels(self, image: np.ndarray, path: Path) -> None:
        """Raises a `UserError` when the image [H, W, C] has not the channels that the network was trained on."""
        channels = self.config.model.in_channels
        if image.shape[-1] != channels:
            raise UserError(
                f"{path} has {image.shape[-1]} channels, but the network was trained on {channels}: convert the image."
            )

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Image [H, W, C] as read from its file -> float32 [H, W, K]; see `losses.probabilities`."""
        return self.compiled(tf.constant(normalize(image, self.config.data)[np.newaxis]))[0].numpy()

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities [H, W, K] -> uint8 [H, W], the class of each pixel; the run's threshold decides."""
        threshold = self.config.training.threshold
        return metrics.predicted_labels(tf.constant(probabilities[np.newaxis]), threshold)[0].numpy().astype(np.uint8)


def find_images(names: list[str]) -> list[Path]:
    """The image files among `names`, each a file or a folder of images.

    Raises:
        UserError: for a name that does not exist, and for two images of one stem: their masks would
            have one name.
    """
    found: dict[str, Path] = {}
    for name in map(Path, names):
        if not name.exists():
            raise UserError(f"--images {name} does not exist: name image files or a folder of them.")
        for path in list_images(name).values() if name.is_dir() else [name]:
            other = found.setdefault(path.stem, path)
            if other != path:
                raise UserError(
                    f"--images has {other} and {path}, whose masks would have one name: predict them apart."
                )
    return list(found.values())


def mask_image(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels as they are written: 0 and 255 for a foreground, class numbers for several."""
    return labels * np.uint8(255) if classes <= 2 else labels


def output_names(stem: str, classes: int, *, with_probabilities: bool, with_overlay: bool) -> dict[str, str]:
    """{what: file name} of all that is written for an image; what is mask, overlay, or a channel's number."""
    names = {"mask": f"{stem}.png"}
    if with_overlay:
        names["overlay"] = f"{stem}_overlay.png"
    if with_probabilities and classes == 1:
        names["0"] = f"{stem}_probability.png"
    elif with_probabilities:
        names |= {str(k): f"{stem}_probability_{k}.png" for k in range(classes)}
    return names


def predict_files(
    predictor: Predictor,
    images: list[Path],
    output: Path,
    *,
    with_probabilities: bool = False,
    with_overlays: bool = False,
    progress: Callable[[Iterable], Iterable] = lambda items: items,
) -> None:
    """Writes OUTPUT/<stem>.png, of the image's size, for every image.

    Args:
        predictor: of a run.
        images: files.
        output: folder, made when it does not exist.
        with_probabilities: also <stem>_probability.png, 16 bit, 65535 for probability 1; of a network
            with several classes <stem>_probability_<class>.png.
        with_overlays: also <stem>_overlay.png, the mask over the image.
        progress: wraps the images, to show how far the work is.

    Raises:
        UserError: before anything is written, when an image cannot be used or a file would be overwritten.
    """
    classes = predictor.config.model.classes
    names = {
        path: output_names(path.stem, classes, with_probabilities=with_probabilities, with_overlay=with_overlays)
        for path in images
    }
    written: set[str] = set()
    for path in images:
        predictor.check_channels(read_image(path), path)
        for name in names[path].values():
            refuse_existing(output / name)
            if name in written:
                raise UserError(f"{name} would be written for two images of --images: predict them apart.")
            written.add(name)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made ({error.strerror}): choose another folder.") from None
    for path in progress(images):
        image = read_image(path)
        p = predictor.probabilities(image)
        labels = predictor.labels(p)
        pictures = {"mask": mask_image(labels, classes)}
        if with_overlays:
            pictures["overlay"] = overlay(image, labels)
        if with_probabilities:
            pictures |= {str(k): np.rint(p[..., k] * 65535).astype(np.uint16) for k in range(classes)}
        for what, name in names[path].items():
            write_image(output / name, pictures[what])
