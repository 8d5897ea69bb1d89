"""What folders with DICOM files hold: radiographs, several series, other objects, images of other formats."""

import functools

import numpy as np
import pytest
from conftest import sentence
from image_files import content
from medical_files import CT, MASK, ORIGIN, dicom, save_dicom, save_nifti, save_object, save_series, to_nifti
from PIL import Image
from pydicom.uid import BasicTextSRStorage, KeyObjectSelectionDocumentStorage, RTDoseStorage, RTPlanStorage

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files
from unet_lowlevel.data.formats import dicom_series
from unet_lowlevel.data.formats.dicom import is_dicom
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.images import find_images
from unet_lowlevel.packages import optional_package


def holds(image, pixels):
    np.testing.assert_array_equal(files.read_image(image)[..., 0], pixels)


def radiograph(path, number, **tags):
    """The image of a patient of its own."""
    path.parent.mkdir(exist_ok=True)
    uid = f"1.2.5.{number}"
    tags = {"Modality": "DX", "ImagePositionPatient": None, "ImageOrientationPatient": None, **tags}
    return save_dicom(path, MASK[number], **{"SeriesInstanceUID": uid, "PatientID": str(number), **tags})


def numbered(number, uid=None):
    """What makes a series another one."""
    return lambda i: {"SeriesInstanceUID": uid or f"1.2.6.{number}", "SeriesNumber": number}


def listed(folder, **options):
    """The list of a folder, and the sentences about what is not in it."""
    mistakes = []
    return files.list_images(folder, mistakes.append, **options), [str(mistake) for mistake in mistakes]


def test_a_folder_of_radiographs_holds_an_image_a_file(tmp_path):
    names = ["a.dcm", "b.DCM", "c.dicom", "d.IMA", "e", "1.2.840.5"]
    for number, name in enumerate(names):
        radiograph(tmp_path / "x" / name, number)
    images, mistakes = listed(tmp_path / "x")
    assert images == {stem: tmp_path / "x" / name for stem, name in zip([*"abcde", "1.2.840.5"], names, strict=True)}
    assert not mistakes
    for number, stem in enumerate([*"abcde", "1.2.840.5"]):
        holds(images[stem], MASK[number])
        assert files.group_of(stem, images[stem]) == str(number)


def test_a_folder_with_one_file_holds_one_image(tmp_path):
    radiograph(tmp_path / "x" / "a.dcm", 0)
    assert files.images_in(tmp_path / "x") == {"a": tmp_path / "x" / "a.dcm"}
    # A folder in the list is what is paired by name.
    assert files.list_images(tmp_path) == {"x": tmp_path / "x" / "a.dcm"}


@pytest.mark.parametrize("tags", [{"SeriesInstanceUID": "1.2.5"}, {"SeriesInstanceUID": None, "Modality": None}])
def test_projections_of_one_series_are_no_slices(tags, tmp_path):
    for number in range(3):
        radiograph(tmp_path / "x" / f"{number}.dcm", number, **tags)
    assert list(files.list_images(tmp_path / "x")) == ["0", "1", "2"]


def test_radiographs_and_their_masks_are_paired_by_name(tmp_path):
    for number, stem in enumerate(["anna", "bert"]):
        radiograph(tmp_path / "images" / f"{stem}.dcm", number)
        radiograph(tmp_path / "masks" / f"{stem}.dcm", number)
    pairs = files.find_pairs(DataConfig(data=str(tmp_path)))
    assert [(pair.stem, pair.image.name, pair.masks[0].name, pair.group) for pair in pairs] == [
        ("anna", "anna.dcm", "anna.dcm", "0"),
        ("bert", "bert.dcm", "bert.dcm", "1"),
    ]


def test_a_folder_of_radiographs_is_found_by_prediction(tmp_path):
    for number in range(3):
        radiograph(tmp_path / "x" / f"{number}.dcm", number)
    assert find_images([str(tmp_path / "x")]) == {str(i): tmp_path / "x" / f"{i}.dcm" for i in range(3)}


def slices(stem, path, series="", count=3):
    return {f"{stem}_{i:03}": Slice(path, i, series) for i in range(count)}


def move(source, target, prefix):
    """Puts the files of a series among others."""
    target.mkdir(exist_ok=True)
    for name in source.iterdir():
        name.rename(target / f"{prefix}{name.name}")
    source.rmdir()


@pytest.mark.parametrize("numbers", [(3, 4), (3, 3), (None, 4)])
def test_several_series_in_a_folder_are_volumes(numbers, tmp_path):
    folder = tmp_path / "study"
    for letter, number, uid in zip("xy", numbers, ("1.2.6.8", "1.2.6.9"), strict=True):
        volume = CT[:3] if letter == "x" else CT[3:]
        move(save_series(tmp_path / "new", volume, change=numbered(number, uid)), folder, letter)
    images, mistakes = listed(folder)
    first, second = ("study_3", "study_4") if numbers == (3, 4) else ("study_xb", "study_yb")
    assert images == {**slices(first, folder, "1.2.6.8"), **slices(second, folder, "1.2.6.9")} and not mistakes
    holds(images[f"{first}_002"], CT[2])
    holds(images[f"{second}_000"], CT[3])
    assert "study" in str(images[f"{first}_002"]) and "1.2.6.8" in str(images[f"{first}_002"])
    assert list(files.list_images(tmp_path)) == list(images)


def test_a_wrong_series_number_is_none(tmp_path):
    folder = tmp_path / "study"
    for letter, uid in zip("xy", ("1.2.6.8", "1.2.6.9"), strict=True):
        move(save_series(tmp_path / "new", CT[:3], change=numbered(7777, uid)), folder, letter)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"7777", b"77a7"))
    images, mistakes = listed(folder)
    assert list(images)[::3] == ["study_xb_000", "study_yb_000"] and not mistakes


def test_a_scout_beside_a_series_is_an_image_and_the_series_keeps_the_name_of_the_folder(tmp_path):
    folder = save_series(tmp_path / "scan", CT[:3])
    save_dicom(folder / "scout.dcm", CT[4], SeriesInstanceUID="1.2.8")
    expected = slices("scan", folder, "1.2.3.4")
    assert files.list_images(folder) == {**expected, "scout": folder / "scout.dcm"}
    assert files.list_images(tmp_path) == {**expected, "scan_scout": folder / "scout.dcm"}
    holds(Slice(folder, 2, "1.2.3.4"), CT[2])


def test_images_beside_a_series_are_listed_too(tmp_path):
    folder = save_series(tmp_path / "scan", CT[:3])
    Image.fromarray(MASK[0]).save(folder / "photo.png")
    for name in (".hidden.png", "notes.txt", "a.json", "b.csv", "DICOMDIR", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    assert files.list_images(folder) == {**slices("scan", folder), "photo": folder / "photo.png"}
    assert files.list_images(tmp_path) == {**slices("scan", folder), "scan_photo": folder / "photo.png"}


def test_images_of_other_formats_are_named(tmp_path):
    Image.fromarray(MASK[0]).save(tmp_path / "a.png")
    (tmp_path / "b.nrrd").write_bytes(b"NRRD0004\n")
    images, mistakes = listed(tmp_path)
    assert list(images) == ["a"] and len(mistakes) == 1
    assert str(tmp_path / "b.nrrd") in mistakes[0] and "not read: convert it to .png or .tif or .nii.gz." in mistakes[0]


OTHERS = {
    "Basic Text SR": BasicTextSRStorage,
    "Key Object Selection Document": KeyObjectSelectionDocumentStorage,
    "RT Plan": RTPlanStorage,
    "RT Dose": RTDoseStorage,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_objects_beside_a_series_are_named_and_the_series_is_done(name, tmp_path):
    folder = save_series(tmp_path / "scan", CT[:3])
    save_object(folder / "other.dcm", OTHERS[name])
    for place in (folder, tmp_path):
        images, mistakes = listed(place)
        assert images == slices("scan", folder, "1.2.3.4") and len(mistakes) == 1
        assert (
            f"{folder / 'other.dcm'} is a DICOM {name}, which holds no image to segment: leave it out." in mistakes[0]
        )
        with pytest.raises(UserError, match="is a DICOM"):
            files.list_images(place)


def test_a_damaged_file_or_series_is_named_and_the_others_are_listed(tmp_path):
    folder = save_series(tmp_path / "study", CT[:3], change=numbered(3))
    gap = save_series(tmp_path / "gap", CT, change=lambda i: numbered(4)(i) | {"ImagePositionPatient": [0, 0, i * i]})
    move(gap, folder, "x")
    content(b"text")(folder / "z.dcm")
    images, mistakes = listed(folder)
    assert images == slices("study_3", folder, "1.2.6.3") and len(mistakes) == 2
    assert "z.dcm is not readable as DICOM" in mistakes[0] and "uneven distances" in mistakes[1]


def test_only_unusable_files_make_no_second_sentence(tmp_path):
    content(b"")(tmp_path / "a.dcm")
    images, mistakes = listed(tmp_path)
    assert not images and len(mistakes) == 1 and "the file is empty" in mistakes[0]


def test_equal_stems_are_named(tmp_path):
    folder = save_series(tmp_path / "scan", CT[:3])
    Image.fromarray(MASK[0]).save(folder / "scan_001.png")
    images, mistakes = listed(folder)
    assert len(images) == 3 and len(mistakes) == 1 and "one file for each stem, scan_001" in mistakes[0]


def test_what_is_dicom(tmp_path):
    whole = radiograph(tmp_path / "a.dcm", 0).read_bytes()
    for name, expected in [("b.IMA", True), ("c.dicom", True), ("d", True), ("1.2.3", True), ("DICOMDIR", False),
                           ("dicomdir", False), (".e.dcm", False), ("f.txt", False), ("g.png", False)]:  # fmt: skip
        (tmp_path / name).write_bytes(whole)
        assert is_dicom(tmp_path / name) == expected, name
    (tmp_path / "h").write_bytes(b"\0" * 128 + b"DIC")
    assert not is_dicom(tmp_path / "h") and not is_dicom(tmp_path) and not is_dicom(tmp_path / "none")


@pytest.mark.parametrize("preamble", [True, False])
def test_files_without_preamble_or_meta_information_are_read(preamble, tmp_path):
    dataset = dicom(CT[0])
    dataset.save_as(tmp_path / "whole.dcm", enforce_file_format=True)
    whole = (tmp_path / "whole.dcm").read_bytes()
    start = 132 if preamble else whole.index(b"\x08\x00\x05\x00")  # SpecificCharacterSet, the first entry
    (tmp_path / "a.dcm").write_bytes(whole[start:])
    holds(tmp_path / "a.dcm", CT[0])


def test_a_missing_package_is_named_once(tmp_path, monkeypatch):
    folder = save_series(tmp_path / "scan", CT)
    Image.fromarray(MASK[0]).save(folder / "photo.png")
    monkeypatch.setattr(dicom_series, "optional_package", functools.partial(missing, optional_package))
    images, mistakes = listed(folder)
    assert list(images) == ["photo"] and mistakes == ["no pydicom."]


def missing(found, name, path):
    if name == "pydicom":
        raise UserError("no pydicom.")
    return found(name, path)


def test_unusable_nifti_files_are_named_and_the_others_are_listed(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", *to_nifti(CT))
    content(b"")(tmp_path / "b.nii")
    save_nifti(tmp_path / "c.nii.gz", np.zeros((4, 5, 6, 7), np.int16))
    images, mistakes = listed(tmp_path)
    assert images == slices("a", tmp_path / "a.nii.gz", count=6) and len(mistakes) == 2
    assert "b.nii is not readable as NIfTI (the file is empty)" in mistakes[0]
    assert "c.nii.gz has the shape (4, 5, 6, 7)" in mistakes[1]


def test_a_broken_link_is_named(tmp_path):
    folder = save_series(tmp_path / "scan", CT[:3])
    (folder / "z.dcm").symlink_to(tmp_path / "none")
    images, mistakes = listed(folder)
    assert len(images) == 3 and "z.dcm" in mistakes[0] and "No such file" in mistakes[0]


def test_a_series_that_lost_its_order_is_one_sentence(tmp_path):
    folder = save_series(tmp_path / "ct", CT, change=lambda i: {"ImagePositionPatient": list(ORIGIN)})
    with pytest.raises(UserError) as caught:
        files.list_images(folder)
    sentence(caught, folder, "two slices at one place")
