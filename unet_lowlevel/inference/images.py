"""The images that --images names."""

from pathlib import Path

from unet_lowlevel.data.files import OnMistake, images_in, list_images, refuse
from unet_lowlevel.data.formats.dicom import is_dicom
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.errors import UserError


def find_images(names: list[str], on_mistake: OnMistake = refuse) -> dict[str, Path | Slice]:
    """{stem: image} of all that --images names: files, volumes, folders of them.

    Raises:
        UserError: for a name that does not exist, and for two images of one stem: their masks would
            have one name. Files that cannot be used go to `on_mistake`, see `list_images`.
    """
    found: dict[str, Path | Slice] = {}
    for name in map(Path, names):
        if not name.exists():
            raise UserError(f"--images {name} does not exist: name image files or a folder of them.")
        try:
            images = list_images(name, on_mistake) if name.is_dir() else images_in(name)
        except UserError as mistake:
            on_mistake(mistake)
            continue
        for stem, image in images.items():
            other = found.setdefault(stem, image)
            if other != image:
                raise UserError(
                    f"--images has {other} and {image}, whose masks would have one name: predict them apart."
                )
    return found


def unused(folder: Path, images: dict[str, Path | Slice], mistakes: list[str]) -> list[str]:
    """The names of what lies in a folder of images and is neither one of them nor named by a mistake."""
    known = {image if isinstance(image, Path) else image.path for image in images.values()}
    known |= {parent for path in known for parent in path.parents}
    others = [path for path in (sorted(folder.iterdir()) if folder.is_dir() else []) if not path.name.startswith(".")]
    # A sentence shows what cannot be printed by its codes.
    return [
        path.name if path.name.isprintable() else repr(path.name)
        for path in others
        if not (path in known or is_dicom(path))
        and not any(str(path) in mistake or repr(path.name) in mistake for mistake in mistakes)
    ]
