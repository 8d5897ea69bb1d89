"""DICOM series and single files: order, geometry and values of the slices, and series of masks."""

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import sentence
from image_files import content, cut
from medical_files import (
    COUNT,
    CT,
    DEEP,
    MASK,
    NAMES,
    ORIGIN,
    RANDOM,
    RGB,
    STEPS,
    TILTS,
    affine_of,
    dicom,
    rotation,
    same,
    save_dicom,
    save_series,
    stack,
    turned,
)
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from unet_lowlevel.data.formats.dicom import read_dicom
from unet_lowlevel.data.formats.dicom_series import DicomSeries, is_series, patient_of
from unet_lowlevel.data.formats.nifti import NiftiVolume
from unet_lowlevel.errors import UserError

GEOMETRY = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]


def test_tilted_gantry_is_no_gap(tmp_path):
    steps = STEPS + np.array([[0, 0.6, 0], [0, 0, 0], [0, 0, 0]])
    series = DicomSeries(save_series(tmp_path / "ct", CT, steps))
    same(stack(series), CT)
    np.testing.assert_allclose(series.affine, affine_of(steps), atol=1e-9)


@pytest.mark.parametrize("reverse", [False, True])
def test_sagittal_dicom_stays_as_it_is(reverse, tmp_path):
    steps = np.array([[-3.0, 0, 0], [0, 0, -0.8], [0, 0.7, 0]])  # the normal of such rows and columns is to the right
    volume, file_steps, origin = turned(CT, (0, 1, 2), (reverse, False, False), steps)
    series = DicomSeries(save_series(tmp_path / "mr", volume, file_steps, origin))
    same(stack(series), CT)
    np.testing.assert_allclose(series.affine, affine_of(steps), atol=1e-9)
    stored = series.as_stored(MASK)
    for file, pixels in zip(series.files, stored, strict=True):
        save_dicom(file, pixels, **{tag: pydicom.dcmread(file)[tag].value for tag in GEOMETRY})
    same(stack(DicomSeries(tmp_path / "mr")), MASK)


def test_dicom_without_positions_goes_by_instance_number(tmp_path):
    series = DicomSeries(save_series(tmp_path / "ct", CT, change=lambda i: {"ImagePositionPatient": None}))
    same(stack(series), CT)
    assert series.affine is None
    series.write(tmp_path / "mask.nii.gz", MASK)  # of no known place, but in the same order
    same(stack(NiftiVolume(tmp_path / "mask.nii.gz")), MASK)


@pytest.mark.parametrize("tilt", TILTS)
def test_what_a_series_writes_lies_where_it_does(tilt, tmp_path):
    series = DicomSeries(save_series(tmp_path / "ct", CT, STEPS @ rotation(tilt).T))
    for slices in (MASK, DEEP):
        path = tmp_path / f"{slices.dtype}.nii.gz"
        series.write(path, slices)
        found = NiftiVolume(path)
        same(stack(found), slices)
        np.testing.assert_allclose(found.affine, series.affine, atol=1e-4)
        # In nibabel's world x points to the right and y to the front.
        image = nibabel.load(path)
        place = np.diag([-1, -1, 1, 1]) @ series.affine @ [5, 19, 29, 1]
        np.testing.assert_allclose(image.affine @ [29, 19, 5, 1], place, rtol=1e-5)
        assert image.get_fdata()[3, 2, 1] == slices[1, 2, 3]


def test_positions_count_more_than_instance_numbers(tmp_path):
    same(stack(DicomSeries(save_series(tmp_path / "ct", CT, change=lambda i: {"InstanceNumber": 7}))), CT)


def test_single_file_is_a_stack_of_one(tmp_path):
    folder = save_series(tmp_path / "ct", CT[:1], change=lambda i: {"InstanceNumber": None})
    same(stack(DicomSeries(folder)), CT[:1])
    assert not is_series(folder)


def test_rounded_positions_are_even(tmp_path):
    def change(i):
        return {"ImagePositionPatient": [-12, 30, round(0.625 * i, 1)]}

    same(stack(DicomSeries(save_series(tmp_path / "ct", CT, change=change))), CT)


@pytest.mark.parametrize("patient", ["", None, "  "])
def test_group_without_patient_is_the_folder(patient, tmp_path, monkeypatch):
    folder = save_series(tmp_path / "ct 1", CT, change=lambda i: {"PatientID": patient})
    monkeypatch.chdir(folder)
    assert DicomSeries(folder).group == DicomSeries(".").group == "ct 1"
    assert patient_of(folder / NAMES[0]) is None


def test_patient_of_a_file(tmp_path):
    assert patient_of(save_dicom(tmp_path / "a.dcm", CT[0])) == "anna"


def test_what_is_a_series(tmp_path):
    folder = save_series(tmp_path / "ct", CT[:1])
    for name in ("notes.txt", ".hidden.dcm", "DICOMDIR", "short", "x.png"):
        (folder / name).write_bytes((folder / NAMES[0]).read_bytes() if name != "short" else b"DICM")
    (folder / "folder.dcm").mkdir()
    assert not is_series(folder) and not is_series(folder / NAMES[0]) and not is_series(tmp_path / "none")
    assert DicomSeries(folder).count == 1
    save_dicom(folder / "1.2.3", CT[1], ImagePositionPatient=list(ORIGIN + STEPS[0]))
    assert is_series(folder)
    same(stack(DicomSeries(str(folder))), CT[:2])


U8, U16 = MASK[0], DEEP[0]
TWELVE = (U16 >> 4).astype(np.uint16)
YBR = np.dstack([np.full((20, 30), 100), np.full((20, 30), 128), np.full((20, 30), 128)]).astype(np.uint8)
HU = {"RescaleSlope": 1, "RescaleIntercept": -1024}
GOOD = {
    "uint8": (U8, {}, U8),
    "uint16": (U16, {}, U16),
    "int16": (CT[0], {}, CT[0]),
    "int16_ct": (CT[0], HU, (CT[0] - 1024.0).astype(np.float32)),
    "identity": (CT[0], {"RescaleSlope": 1, "RescaleIntercept": 0}, CT[0]),
    "slope": (TWELVE, {"RescaleSlope": "-0.5", "RescaleIntercept": 3}, (3 - TWELVE / 2).astype(np.float32)),
    "intercept_alone": (TWELVE, {"RescaleIntercept": -1}, (TWELVE - 1.0).astype(np.float32)),
    "white_is_0": (U8, {"kind": "MONOCHROME1"}, 255 - U8),
    "white_is_0_in_12_bits": (TWELVE, {"kind": "MONOCHROME1", "BitsStored": 12}, 4095 - TWELVE),
    "white_is_0_in_16_bits": (U16, {"kind": "MONOCHROME1"}, 65535 - U16),
    "white_is_lowest": (CT[0], {"kind": "MONOCHROME1"}, (-1 - CT[0]).astype(np.int16)),
    "white_is_0_rescaled": (TWELVE, {"kind": "MONOCHROME1", "BitsStored": 12, **HU},
                            (4095.0 - TWELVE - 1024).astype(np.float32)),
    "rgb": (RGB[0], {"kind": "RGB"}, RGB[0]),
    "ybr": (YBR, {"kind": "YBR_FULL"}, np.full((20, 30, 3), 100, np.uint8)),
    "big_endian": (CT[0], {"syntax": ExplicitVRBigEndian}, CT[0]),
    "implicit": (CT[0], {"syntax": ImplicitVRLittleEndian}, CT[0]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_dicom_values(name, tmp_path, capfd, caplog):
    pixels, tags, expected = GOOD[name]
    image = read_dicom(str(save_dicom(tmp_path / "a.dcm", pixels, **tags)))
    same(image, expected)
    assert image.flags.c_contiguous
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_dicom_compressed_without_loss(tmp_path):
    dataset = dicom(CT[0])
    dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    same(read_dicom(tmp_path / "a.dcm"), CT[0])


def test_dicom_palette(tmp_path):
    dataset = dicom(U8, kind="PALETTE COLOR")
    table = RANDOM.integers(0, 256, (4, 3), dtype=np.uint8)
    for color, values in zip(("Red", "Green", "Blue"), table.T, strict=True):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(dataset, f"{color}PaletteColorLookupTableData", (values.astype("<u2") * 257).tobytes())
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    same(read_dicom(tmp_path / "a.dcm"), table[U8])


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_table_of_values(kind, tmp_path):
    dataset, item, values = dicom(U8, kind=kind), Dataset(), np.array([500, 7, 65000], np.uint16)
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [3, 0, 16], values.tolist(), "US"
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    dataset.ModalityLUTSequence = [item]
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    same(read_dicom(tmp_path / "a.dcm"), values[U8] if kind == "MONOCHROME2" else 65535 - values[U8])


def a_dicom(pixels=U16, **tags):
    return lambda path: save_dicom(path, pixels, **tags)


def with_syntax(name, uid):
    """A file that says it is compressed."""

    def write(path):
        dataset = dicom(U8)
        dataset.file_meta.TransferSyntaxUID = UID(uid)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7" + b"\0" * 60])
        dataset.save_as(path, enforce_file_format=True)

    return write


def with_tag(keyword, value):
    """A file with a value that does not fit its pixels."""

    def write(path):
        dataset = dicom(U16)
        setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)

    return write


BAD_DICOM = [
    ("empty", content(b""), ["the file is empty", "intact"]),
    ("text", content(b"not an image " * 50), ["not readable as DICOM", "missing", "intact"]),
    ("magic", content(b"\0" * 128 + b"DICM"), ["intact"]),
    *[(f"cut{share}", cut(a_dicom(), share), ["not readable as DICOM", "intact"])
      for share in (100, 140, 300, 0.5, -2)],
    ("no_pixels", a_dicom(None), ["not readable as DICOM", "intact"]),
    ("frames", a_dicom(DEEP), ["holds 6 frames", "one image"]),
    ("large", with_tag("Rows", 65535), ["not readable as DICOM", "intact"]),
    ("no_rows", with_tag("Rows", 0), ["not readable as DICOM", "intact"]),
    ("bits", with_tag("BitsAllocated", 13), ["not readable as DICOM", "intact"]),
    ("hsv", with_tag("PhotometricInterpretation", "HSV"), ["not readable as DICOM", "intact"]),
    ("jpeg_ls", with_syntax("a", "1.2.840.10008.1.2.4.80"), ["JPEG-LS Lossless", "pip install"]),
    ("mpeg", with_syntax("a", "1.2.840.10008.1.2.4.100"), ["MPEG2", "no package decodes", "uncompressed"]),
    ("jpeg", with_syntax("a", "1.2.840.10008.1.2.4.50"), ["not readable as DICOM", "intact"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "words"), BAD_DICOM, ids=[row[0] for row in BAD_DICOM])
def test_bad_dicom_is_refused(name, write, words, tmp_path, capfd, caplog):
    path = tmp_path / f"{name}.dcm"
    write(path)
    with pytest.raises(UserError) as caught:
        read_dicom(path)
    sentence(caught, path, *words)
    assert capfd.readouterr() == ("", "") and not caplog.records


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.57"])
def test_without_a_decoder_its_package_is_named(uid, tmp_path, monkeypatch):
    decoder = type("Decoder", (), {"is_available": False})
    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda syntax: decoder)
    with_syntax("a", uid)(tmp_path / "a.dcm")
    with pytest.raises(UserError) as caught:
        read_dicom(tmp_path / "a.dcm")
    sentence(caught, "a.dcm is compressed as JPEG", "no installed package", "pip install 'pylibjpeg[all]'")


def places(*z):
    return lambda i: {"ImagePositionPatient": [-12, 30, z[i]]}


ALONG = [2.5 * i for i in range(COUNT)]
BAD_SERIES = {
    "series": (lambda i: {"SeriesInstanceUID": f"1.2.{i // 3}"}, ["holds 2 series", "a", "a folder for each"]),
    "orientation": (lambda i: {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]} if i == 2 else {},
                    ["different orientation", "f.dcm"]),
    "some_places": (lambda i: {"ImagePositionPatient": None} if i == 2 else {}, ["without a position", "f.dcm"]),
    "twice": (places(0, 2.5, 5, 5, 7.5, 10), ["two slices at one place, a and f.dcm", "keep one"]),
    "all_at_one": (places(*[5] * COUNT), ["two slices at one place"]),
    "gap": (places(0, 2.5, 5, 10, 12.5, 15), ["5 mm from f.dcm to a but mostly 2.5", "missing"]),
    "first_gap": (places(0, 5, 7.5, 10, 12.5, 15), ["5 mm from e.dcm to b.DCM but mostly 2.5"]),
    "between": (places(0, 2.5, 5, 6.25, 7.5, 10), ["1.25 mm", "but mostly 2.5", "too many"]),
    "no_order": (lambda i: {"ImagePositionPatient": None, "InstanceNumber": None}, ["without", "unknown"]),
    "numbers_twice": (lambda i: {"ImagePositionPatient": None, "InstanceNumber": i // 2}, ["two slices at one place"]),
    "number_left_out": (lambda i: {"ImagePositionPatient": None, "InstanceNumber": i + (i > 2)},
                        ["2 in InstanceNumber", "mostly 1"]),
    "nan": (lambda i: {"ImagePositionPatient": ["nan", 0, i]}, ["no place", "intact"]),
    "short": (lambda i: {"ImagePositionPatient": [0, i]}, ["not readable as DICOM", "intact"]),
    "zero": (lambda i: {"ImageOrientationPatient": [0] * 6}, ["no place", "intact"]),
    "flat": (lambda i: {"PixelSpacing": [0, 0.7]}, ["affine", "anew"]),
    "frames": (lambda i: {"NumberOfFrames": 3}, ["holds 1.2.840.113 beside a series", "a folder of its own"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SERIES)
def test_bad_series_are_refused(name, tmp_path, capfd, caplog):
    change, words = BAD_SERIES[name]
    folder = save_series(tmp_path / "ct", CT, change=change)
    if name == "frames":
        for file in folder.iterdir():
            dataset = pydicom.dcmread(file)
            dataset.NumberOfFrames = 3
            dataset.save_as(file)
    with pytest.raises(UserError) as caught:
        DicomSeries(folder)
    sentence(caught, folder, *words)
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_series_of_two_sizes_is_refused(tmp_path):
    folder = save_series(tmp_path / "ct", CT)
    save_dicom(folder / "e.dcm", CT[0, :, :-1], ImagePositionPatient=list(ORIGIN))
    with pytest.raises(UserError) as caught:
        DicomSeries(folder)
    sentence(caught, folder, "20x29", "20x30", "e.dcm", "each size")


@pytest.mark.parametrize("write", [content(b""), content(b"text"), cut(a_dicom(), 200), a_dicom(None)])
def test_series_with_a_bad_file_is_refused(write, tmp_path):
    folder = save_series(tmp_path / "ct", CT)
    write(folder / "z.dcm")
    with pytest.raises(UserError) as caught:
        DicomSeries(folder)
    sentence(caught, folder / "z.dcm", "not readable as DICOM", "intact")


def test_no_series_is_refused(tmp_path):
    for folder, words in [(tmp_path, "holds no DICOM file"), (tmp_path / "none", "does not exist")]:
        with pytest.raises(UserError) as caught:
            DicomSeries(folder)
        sentence(caught, folder, words, "name a folder")
