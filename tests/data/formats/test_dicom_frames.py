"""DICOM files of several frames as volumes: enhanced CT and MR, films, and how much of them is in memory."""

import numpy as np
import pydicom
import pytest
from medical_files import CT, DEEP, MASK, RGB, affine_of, at, dicom, same, save_enhanced, save_frames, stack
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from unet_lowlevel.data import files
from unet_lowlevel.data.formats import dicom as reader
from unet_lowlevel.data.formats.dicom_series import DicomSeries
from unet_lowlevel.data.formats.volumes import Slice, open_volume
from unet_lowlevel.errors import UserError


def test_frames_are_slices_in_the_order_of_their_places(tmp_path):
    order = [3, 0, 5, 1, 4, 2]
    path = save_enhanced(tmp_path / "scan.dcm", CT[order], at(*order))
    assert files.list_images(tmp_path) == {f"scan_{i:03}": Slice(path, i) for i in range(6)}
    volume = open_volume(path)
    same(stack(volume), CT)
    np.testing.assert_allclose(volume.affine, affine_of(), atol=1e-9)
    assert (volume.group, volume.count) == ("anna", 6)
    assert volume.files == [path] * 6 and volume.frames == [order.index(i) for i in range(6)]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_frames_in_other_encodings(syntax, tmp_path):
    same(stack(open_volume(save_enhanced(tmp_path / "a.dcm", syntax=syntax))), CT)


def test_each_frame_has_its_own_rescaling(tmp_path):
    def own(i):
        return at(*range(6))(i) | {"PixelValueTransformationSequence": {"RescaleSlope": i + 1, "RescaleIntercept": -i}}

    found = stack(open_volume(save_enhanced(tmp_path / "a.dcm", CT, own)))
    numbers = np.arange(6)[:, None, None]
    same(found, (CT.astype(np.float64) * (numbers + 1) - numbers).astype(np.float32))


def test_an_enhanced_file_of_one_frame_is_an_image_with_its_rescaling(tmp_path):
    own = {"PixelValueTransformationSequence": {"RescaleSlope": 2, "RescaleIntercept": 1}}
    path = save_enhanced(tmp_path / "a.dcm", CT[:1], lambda i: own)
    assert files.list_images(tmp_path) == {"a": path}
    np.testing.assert_array_equal(files.read_image(path)[..., 0], CT[0] * 2.0 + 1)


def test_enhanced_files_of_one_frame_are_a_series(tmp_path):
    (tmp_path / "scan").mkdir()
    for i in (4, 1, 3, 2, 0, 5):
        save_enhanced(tmp_path / "scan" / f"{9 - i}.dcm", CT[i : i + 1], lambda _, i=i: at(*range(6))(i))
    volume = open_volume(tmp_path / "scan")
    same(stack(volume), CT)
    np.testing.assert_allclose(volume.affine, affine_of(), atol=1e-9)


@pytest.mark.parametrize("places", [(0, 0, 1, 1, 2, 2), (0, 1, 2, 0, 1, 2), (0, 1, 2, 4, 5, 6)])
def test_frames_that_are_no_even_stack_stay_in_their_order(places, tmp_path):
    volume = open_volume(save_enhanced(tmp_path / "a.dcm", CT, at(*places)))
    same(stack(volume), CT)
    assert volume.affine is None


GRAY = np.full((3, 4, 6, 3), 100, np.uint8)
FILMS = {
    "gray": (DEEP, {}, DEEP),
    "white_is_0": (MASK, {"kind": "MONOCHROME1"}, 255 - MASK),
    "rgb": (RGB, {"kind": "RGB"}, RGB),
    "ybr": (np.full((3, 4, 6, 3), [100, 128, 128], np.uint8), {"kind": "YBR_FULL"}, GRAY),
}


@pytest.mark.parametrize("name", FILMS)
def test_films_are_slices_without_a_place(name, tmp_path):
    pixels, tags, expected = FILMS[name]
    path = save_frames(tmp_path / "a.dcm", pixels, SOPClassUID=UltrasoundMultiFrameImageStorage, **tags)
    volume = open_volume(path)
    same(stack(volume), expected)
    assert volume.affine is None


def test_a_film_of_a_palette(tmp_path):
    table = np.array([[0, 255, 7], [9, 8, 200], [1, 2, 3]], np.uint8)
    tags = {f"{color}PaletteColorLookupTableDescriptor": [3, 0, 16] for color in ("Red", "Green", "Blue")}
    for color, values in zip(("Red", "Green", "Blue"), table.T, strict=True):
        tags[f"{color}PaletteColorLookupTableData"] = (values.astype("<u2") * 257).tobytes()
    same(stack(open_volume(save_frames(tmp_path / "a.dcm", MASK, kind="PALETTE COLOR", **tags))), table[MASK])


def test_compressed_frames_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    dataset = dicom(CT)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    volume, decoded, found = open_volume(tmp_path / "a.dcm"), [], pydicom.pixels.pixel_array

    def counted(source, index=None):
        decoded.append(index)
        assert not hasattr(source, "PixelData")
        return found(source, index=index)

    monkeypatch.setattr(pydicom.pixels, "pixel_array", counted)
    same(volume.read(4), CT[4])
    assert decoded == [4]


@pytest.mark.parametrize("missing", ["preamble", "all"])
def test_frames_without_meta_information(missing, tmp_path):
    whole = save_enhanced(tmp_path / "whole.dcm").read_bytes()
    start = 132 if missing == "preamble" else whole.index(b"\x08\x00\x05\x00")
    (tmp_path / "a.dcm").write_bytes(whole[start:])
    same(stack(open_volume(tmp_path / "a.dcm")), CT)


def test_many_frames_are_read_quickly(tmp_path, monkeypatch):
    """The header, which grows with the number of frames, is parsed once."""
    volume = open_volume(save_enhanced(tmp_path / "a.dcm"))
    parsed, load = [], reader.load
    monkeypatch.setattr(reader, "load", lambda *args, **options: parsed.append(args) or load(*args, **options))
    stack(volume)
    assert len(parsed) <= 1


def test_many_claimed_frames_are_refused_at_once(tmp_path):
    path = save_frames(tmp_path / "a.dcm", DEEP)
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 999_999_999
    dataset.save_as(path)
    with pytest.raises(UserError, match="too short for 999999999 frames"):
        files.list_images(tmp_path)


def test_a_whole_slide_is_no_stack(tmp_path):
    save_frames(tmp_path / "a.dcm", RGB, kind="RGB", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6")
    with pytest.raises(UserError, match="is a whole slide in tiles: save"):
        files.list_images(tmp_path)


def test_a_cut_film_is_refused(tmp_path):
    path = save_frames(tmp_path / "a.dcm", DEEP)
    path.write_bytes(path.read_bytes()[:-100])
    volume = DicomSeries(path)
    with pytest.raises(UserError, match="not readable as DICOM"):
        stack(volume)
