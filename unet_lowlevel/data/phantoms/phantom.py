"""Generated CT-like slices of the thorax with exact lung masks, to train on before you have your own data.

A patient is one random anatomy (`thorax.py`), a slice is that anatomy cut at a height. Slices of one patient
resemble each other and must stay on one side of a split: see `GROUP_REGEX`.

The lungs include their vessels, nodules and consolidations; they exclude the other air that a threshold
takes for lung: the room, windpipe and main bronchi, gas in gullet, stomach and colon, foam in the table.
So gray values do not suffice. Over 240 slices of 128 x 128 (20 patients, seed 0) the pooled IoU was: 0.27
for the best global threshold, 0.49 for the best band of gray values, both chosen with the masks; 0.82 for
Otsu's threshold of each image without the air connected to the border (half of the slices above 0.86,
patients with congested lungs near 0.5).
"""

import os
import shutil
from pathlib import Path

import numpy as np

from unet_lowlevel.data.formats.writing import write_image
from unet_lowlevel.data.phantoms.thorax import draw_thorax, make_anatomy, scan
from unet_lowlevel.disk import put_in_place
from unet_lowlevel.errors import UserError
from unet_lowlevel.terminal import Progress

GROUP_REGEX = r"patient-\d+"
"""The part of a file's stem that all slices of one patient share."""


def draw_phantom(
    patient: int, slice_index: int, slices: int, size: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """One slice and its lung mask, a pure function of the arguments.

    Args:
        patient: number of the patient, from 0; with `seed` it determines the anatomy.
        slice_index: which slice from the top, in 0..slices-1; with `patient` and `seed` it determines the noise.
        slices: slices that the patient is cut into.
        size: (height, width) in pixels; the anatomy keeps its proportions at any ratio.
        seed: any whole number from 0.

    Returns:
        image uint8 [H, W], seen from the feet as is usual (the heart lies to the right), and mask uint8
        [H, W], 255 in the lungs and 0 elsewhere.
    """
    height, width = size
    # A unit is half the width; less in a wide image, so that body and table fit into its height.
    pixel = 2.0 / min(width, 1.2 * height)
    rows = ((np.arange(height, dtype=np.float32) - (height - 1) / 2) * pixel)[:, None]
    columns = ((np.arange(width, dtype=np.float32) - (width - 1) / 2) * pixel)[None, :]
    # The last number separates the random streams: 0 for the anatomy, 1 + slice_index for the noise.
    anatomy = make_anatomy(np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, patient, 0)))))
    noise = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, patient, 1 + slice_index))))
    z = (slice_index + 0.5) / slices
    hounsfield, lung = draw_thorax(anatomy, z, columns, rows, pixel, noise)
    return scan(anatomy, z, hounsfield, columns, rows, noise), np.where(lung < 0, 255, 0).astype(np.uint8)


def write_phantoms(
    folder: Path,
    count: int,
    size: tuple[int, int],
    slices_per_patient: int,
    seed: int,
    progress: Progress = lambda items: items,
) -> None:
    """Writes `count` slices to `folder`/images/patient-003_slice-02.png and `folder`/masks/, all or none.

    Args:
        folder: new or empty.
        count: slices in all; the last patient may get fewer than the others.
        size: (height, width) in pixels.
        slices_per_patient: slices that every patient is cut into.
        seed: determines all of them.
        progress: wraps the iterable over the slices, as `tqdm.tqdm` does.

    Raises:
        UserError: `folder` is a file or holds something.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} already holds something: name a new or empty folder for the phantoms.")
    # Beside `folder`, because only within one file system a rename is atomic.
    unfinished = folder.with_name(f".{folder.name}-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        for kind in ("images", "masks"):
            (unfinished / kind).mkdir()
        for index in progress(range(count)):
            patient, slice_index = divmod(index, slices_per_patient)
            image, mask = draw_phantom(patient, slice_index, slices_per_patient, size, seed)
            name = f"patient-{patient:03d}_slice-{slice_index:02d}.png"
            write_image(unfinished / "images" / name, image)
            write_image(unfinished / "masks" / name, mask)
        if folder.exists():
            folder.rmdir()  # fails on purpose if something was put there meanwhile
        put_in_place(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
