"""The images that --images names."""

from pathlib import Path

from unet_lowlevel.data.files import OnMistake, images_in, list_images, refuse
from unet_lowlevel.data.formats.dicom import is_dicom
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.packed import Part, is_packed, read_index
from unet_lowlevel.errors import UserError


def find_images(names: list[str], on_mistake: OnMistake = refuse) -> dict[str, Path | Slice | Part]:
    """{stem: image} of all that --images names: files, volumes, folders of them, packed data.

    Raises:
        UserError: for a name that does not exist, and for two images of one stem: their masks would
            have one name. Files that cannot be used go to `on_mistake`, see `list_images`.
    """
    found: dict[str, Path | Slice | Part] = {}
    for name in names:
        if not is_packed(name) and not Path(name).exists():
            raise UserError(f"--images {name} does not exist: name image files or a folder of them.")
        try:
            images = images_at(name, on_mistake)
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


def images_at(name: str, on_mistake: OnMistake) -> dict[str, Path | Slice | Part]:
    """`find_images` of one name."""
    if is_packed(name):
        return {record.stem: Part(record, "image") for record in read_index(name)[1]}
    return list_images(name, on_mistake) if Path(name).is_dir() else images_in(Path(name))


def unused(folder: Path | str, images: dict[str, Path | Slice | Part], mistakes: list[str]) -> list[str]:
    """The names of what lies in a folder of images and is neither one of them nor named by a mistake."""
    if is_packed(folder):
        return []
    known = {
        image if isinstance(image, Path) else image.path for image in images.values() if not isinstance(image, Part)
    }
    folder = Path(folder)
    known |= {parent for path in known for parent in path.parents}
    others = [path for path in (sorted(folder.iterdir()) if folder.is_dir() else []) if not path.name.startswith(".")]
    # A sentence shows what cannot be printed by its codes.
    return [
        path.name if path.name.isprintable() else repr(path.name)
        for path in others
        if not (path in known or is_dicom(path))
        and not any(str(path) in mistake or repr(path.name) in mistake for mistake in mistakes)
    ]
