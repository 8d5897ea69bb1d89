"""The images that --images names, and the shards of them."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from unet_lowlevel.data.files import OnMistake, images_in, list_images, refuse
from unet_lowlevel.data.formats.dicom import is_dicom
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.packed import Part, is_packed, is_url, read_index
from unet_lowlevel.errors import UserError, reason


@dataclass(frozen=True)
class Shard:
    """Every `count`-th image or volume from number `index` on, counted from 0."""

    index: int = 0
    count: int = 1


WHOLE = Shard()


def shard_of(text: str) -> Shard:
    """The shard that --shard i/n names."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not index < count:
        raise UserError(f"--shard {text} is no shard: give i/n with i from 0 to n - 1, for example 0/8.")
    return Shard(index, count)


def units(images: dict[str, Path | Slice | Part]) -> list[dict[str, Path | Slice | Part]]:
    """The images apart, but the slices of a volume together: their masks are one file."""
    found: dict[object, dict[str, Path | Slice | Part]] = {}
    for stem, image in images.items():
        found.setdefault((image.path, image.series) if isinstance(image, Slice) else stem, {})[stem] = image
    return list(found.values())


def images_of(shard: Shard, images: dict[str, Path | Slice | Part]) -> dict[str, Path | Slice | Part]:
    """The images of a shard: it depends on nothing but the images, in the order of their stems."""
    chosen = units(dict(sorted(images.items())))[shard.index :: shard.count]
    return {stem: image for unit in chosen for stem, image in unit.items()}


def local(text: str) -> str:
    """The path of a file:// address; any other text as it is, unless it is an address elsewhere.

    Raises:
        UserError: for gs://, s3:// and others.
    """
    scheme, found, path = text.partition("://")
    if not found or not scheme.isalnum():
        return text
    if scheme != "file" or not path.startswith("/"):
        raise UserError(f"{text} is not on a disk of this machine: mount its storage as a folder, or copy the files.")
    return path


def place_of(text: str) -> str:
    """As `local`, of images: an address elsewhere is of packed data, which alone can lie there."""
    return text if is_url(text) and not text.startswith("file://") else local(text)


def listed_by(name: str) -> list[str]:
    """What a list of images names, a text file with one name a line; any other name names itself."""
    if not (str(name).lower().endswith(".txt") and Path(name).is_file()):
        return [name]
    try:
        return [place_of(line) for line in Path(name).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--images {name} is no list of images ({reason(error)}): name one a line, in UTF-8.") from None


def find_images(names: list[str], on_mistake: OnMistake = refuse) -> dict[str, Path | Slice | Part]:
    """{stem: image} of all that --images names: files, volumes, folders of them, packed data, and lists of names.

    Raises:
        UserError: for a name that does not exist, and for two images of one stem: their masks would
            have one name. Files that cannot be used go to `on_mistake`, see `list_images`.
    """
    found: dict[str, Path | Slice | Part] = {}
    for name in itertools.chain.from_iterable(map(listed_by, names)):
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
