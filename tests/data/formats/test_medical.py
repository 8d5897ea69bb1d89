"""DICOM series and NIfTI volumes: one phantom, in whatever axes a file has it, comes back as the same slices."""

import gc
import gzip
import importlib
import itertools
import struct
import weakref

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import sentence
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from test_files import content, cut

from unet_lowlevel.data.formats import writing
from unet_lowlevel.data.formats.dicom import DicomSeries, is_series, patient_of, read_dicom
from unet_lowlevel.data.formats.nifti import NiftiVolume
from unet_lowlevel.errors import UserError

RANDOM = np.random.default_rng(0)
COUNT, HEIGHT, WIDTH = SHAPE = (6, 20, 30)
CT = RANDOM.integers(-1024, 3000, SHAPE, dtype=np.int16)
MASK = RANDOM.integers(0, 3, SHAPE, dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, SHAPE, dtype=np.uint16)
RGB = RANDOM.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
# The patient's left, back and head as rows of millimetres a step: of a slice to the head, a row to the back and a
# column to the left. This is what both formats must come to.
STEPS = np.array([[0, 0, 2.5], [0, 0.8, 0], [0.7, 0, 0]])
ORIGIN = np.array([-12.0, 30.0, 105.5])


def rotation(degrees):
    """A rotation by three angles, small enough that every axis stays the closest to its own."""
    result = np.eye(3)
    for (i, j), angle in zip([(0, 1), (1, 2), (0, 2)], np.radians(degrees), strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def affine_of(steps=STEPS, origin=ORIGIN):
    """(slice, row, column, 1) -> millimetres to the left, the back and the head."""
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = np.transpose(steps), origin
    return result


def turned(volume, order, flips, steps=STEPS):
    """The phantom with its first three axes in another order and direction, and the steps and origin of them."""
    steps, origin = np.array(steps)[list(order)], np.array(ORIGIN)
    volume = volume.transpose(*order, *range(3, volume.ndim))
    for axis, flipped in enumerate(flips):
        if flipped:
            origin = origin + (volume.shape[axis] - 1) * steps[axis]
            steps[axis] *= -1
            volume = np.flip(volume, axis)
    return volume, steps, origin


def save_nifti(path, volume, steps=STEPS, origin=ORIGIN, *, slope=1, inter=0, kind=nibabel.Nifti1Image, codes=(1, 2)):
    """Writes an array whose axes go by `steps`; the world of NIfTI points to the right, the front and the head."""
    affine = np.diag([-1, -1, 1, 1]) @ affine_of(steps, origin)
    header = kind.header_class()
    header.set_data_dtype(volume.dtype)
    image = kind(volume, affine, header)
    image.header.set_qform(affine, codes[0])
    image.header.set_sform(affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(slope, inter)
    image.to_filename(path)
    return path


def dicom(pixels, **tags):
    """A dataset of one slice, with the given values in place of the usual ones; None leaves a tag out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    kind = tags.pop("kind", "MONOCHROME2")
    usual = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": "1.2.3.4.0",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.9",
        "PatientID": "anna",
        "PatientName": "Müller^Anna",
        "SpecificCharacterSet": "ISO_IR 192",
        "Modality": "CT",
        "InstanceNumber": 1,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": list(ORIGIN),
        "PixelSpacing": [0.8, 0.7],
        "SliceThickness": 2.5,
        "WindowCenter": 40,
        "WindowWidth": 400,
    }
    for keyword, value in {**usual, **tags}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if pixels is not None and pixels.dtype.itemsize <= 2:
        bits = tags.get("BitsStored", 8 * pixels.dtype.itemsize)
        big = dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
        syntax, dataset.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID, ExplicitVRLittleEndian
        pydicom.pixels.set_pixel_data(dataset, pixels, kind, bits, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
        if big and pixels.dtype.itemsize == 2:
            dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return dataset


def save_dicom(path, pixels, **tags):
    with pydicom.config.disable_value_validation():
        dicom(pixels, **tags).save_as(path, enforce_file_format=True)
    return path


# Names whose order is not that of the slices.
NAMES = ["e.dcm", "b.DCM", "f.dcm", "a", "1.2.840.113", "c.dcm"]


def save_series(folder, volume=CT, steps=STEPS, origin=ORIGIN, change=lambda i: {}):
    """A folder with a file for each slice, whose normal is that of its rows and columns."""
    folder.mkdir(parents=True)
    (down, along), lengths = np.array(steps[1:]), np.linalg.norm(steps[1:], axis=1)
    for i, pixels in enumerate(volume):
        place = {
            "ImagePositionPatient": [f"{x:.10g}" for x in origin + i * np.array(steps[0])],
            "ImageOrientationPatient": [f"{x:.10g}" for x in (*along / lengths[1], *down / lengths[0])],
            "PixelSpacing": [f"{x:.10g}" for x in lengths],
        }
        tags = {"InstanceNumber": i + 1, "SOPInstanceUID": f"1.2.3.4.{i + 1}", **place, **change(i)}
        save_dicom(folder / NAMES[i % len(NAMES)], pixels, **tags)
    return folder


def stack(volume):
    return np.stack([volume.read(i) for i in range(volume.count)])


def same(found, expected):
    """Equal to the bit, and of the same kind."""
    assert found.dtype == expected.dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, expected)


ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product([False, True], repeat=3)))
TILTS = [(0, 0, 0), (12, -20, 7)]


@pytest.mark.parametrize(("order", "flips"), ORDERS)
@pytest.mark.parametrize("tilt", TILTS, ids=["straight", "oblique"])
def test_nifti_in_any_axes_gives_the_same_slices_and_takes_masks_back(order, flips, tilt, tmp_path):
    steps = STEPS @ rotation(tilt).T
    array, file_steps, origin = turned(CT, order, flips, steps)
    volume = NiftiVolume(save_nifti(tmp_path / "ct.nii.gz", array, file_steps, origin))
    same(stack(volume), CT)
    assert (volume.count, volume.group, volume.suffix) == (COUNT, "ct", ".nii.gz")
    np.testing.assert_allclose(volume.affine, affine_of(steps), atol=1e-4)

    volume.write(tmp_path / "mask.nii.gz", MASK)
    source, written = nibabel.load(volume.path), nibabel.load(tmp_path / "mask.nii.gz")
    same(np.asarray(written.dataobj.get_unscaled()), turned(MASK, order, flips)[0])
    np.testing.assert_array_equal(written.affine, source.affine)
    same(stack(NiftiVolume(tmp_path / "mask.nii.gz")), MASK)


@pytest.mark.parametrize("slices", [MASK, DEEP, np.asfortranarray(MASK)[:, ::-1]])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 2), (3, 0), (0, 4)])
def test_nifti_masks_keep_the_header(slices, kind, codes, tmp_path):
    array, steps, origin = turned(CT, (2, 1, 0), (True, True, False))
    path = save_nifti(tmp_path / "a.nii", array, steps, origin, slope=2, inter=-5, kind=kind, codes=codes)
    for name in ("one.nii.gz", "two.nii.gz"):
        NiftiVolume(path).write(tmp_path / name, slices)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()
    source, written = nibabel.load(path).header, nibabel.load(tmp_path / "one.nii.gz").header
    assert type(written) is type(source) and written.get_data_dtype() == slices.dtype
    for name in ("sform_code", "qform_code", "xyzt_units", "pixdim", "dim", "srow_x", "srow_y", "srow_z", "quatern_b"):
        np.testing.assert_array_equal(written[name], source[name], name)
    same(stack(NiftiVolume(tmp_path / "one.nii.gz")), slices)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "one.nii.gz", "two.nii.gz"]


def test_nifti_without_codes_keeps_having_none(tmp_path):
    path = save_nifti(tmp_path / "a.nii", *turned(CT, (2, 1, 0), (False, True, False)))
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)  # qform_code and sform_code: what is left are the sizes of the voxels
    path.write_bytes(data)
    volume = NiftiVolume(path)
    same(stack(volume), CT)  # the first axis is taken to point to the left then, as in Analyze
    volume.write(tmp_path / "mask.nii.gz", MASK)
    header = nibabel.load(tmp_path / "mask.nii.gz").header
    assert (header["qform_code"], header["sform_code"]) == (0, 0)
    same(stack(NiftiVolume(tmp_path / "mask.nii.gz")), MASK)


def to_nifti(volume):
    """The axes of an ordinary NIfTI file."""
    return turned(volume, (2, 1, 0), (True, True, False))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A b.c.NII"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "i4", "i8", "f4", ">f4", "f8"])
def test_nifti_values_are_as_stored(name, dtype, tmp_path):
    volume = MASK.astype(dtype)
    volume[0, 0, 0] = 100
    array, steps, origin = to_nifti(volume)
    kind = nibabel.Nifti1Image
    header = kind.header_class(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    kind(array, np.diag([-1, -1, 1, 1]) @ affine_of(steps, origin), header).to_filename(tmp_path / name)
    found = NiftiVolume(tmp_path / name)
    same(stack(found), volume.astype(np.dtype(dtype).newbyteorder("=")))
    assert found.group == name[: name.lower().index(".nii")]


def scaled_nifti(path, stored, slope, inter):
    """Stored whole numbers with a slope and an intercept in the header, which nibabel would choose itself."""
    array, steps, origin = to_nifti(stored)
    save_nifti(path, array, steps, origin)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<2f", slope, inter)
    path.write_bytes(data)
    return NiftiVolume(path)


@pytest.mark.parametrize(("slope", "inter"), [(1, -1024), (-2, 7), (0.5, 0)])
def test_nifti_slope_and_intercept_give_float32(slope, inter, tmp_path):
    same(stack(scaled_nifti(tmp_path / "a.nii", CT, slope, inter)), (CT * float(slope) + inter).astype(np.float32))


@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (0, 0), (0, 3), (np.nan, np.nan)])
def test_nifti_without_a_slope_is_as_stored(slope, inter, tmp_path):
    same(stack(scaled_nifti(tmp_path / "a.nii", CT, slope, inter)), CT)


def test_nifti_values_too_large_for_float32_are_infinite_without_a_warning(tmp_path):
    assert np.isinf(scaled_nifti(tmp_path / "a.nii", CT, 3e38, 0).read(0)).any()


@pytest.mark.parametrize(("shape", "expected"), [((30, 20), (1, 20, 30)), ((30, 20, 1), (1, 20, 30)),
    ((30, 20, 6, 1), (6, 20, 30)), ((30, 20, 6, 1, 1), (6, 20, 30)), ((30, 20, 6, 2), (6, 20, 30, 2)),
    ((30, 20, 1, 4), (1, 20, 30, 4))])  # fmt: skip
def test_nifti_of_other_dimensions(shape, expected, tmp_path):
    array = RANDOM.integers(0, 255, shape, dtype=np.uint8)
    steps, origin = to_nifti(CT)[1:]
    volume = NiftiVolume(save_nifti(tmp_path / "a.nii.gz", array, steps, origin))
    found = stack(volume)
    assert found.shape == expected and volume.count == expected[0]
    x, y, z = 4, 15, expected[0] - 1
    voxel = array[(x, y, z)[: min(len(shape), 3)]].squeeze()
    np.testing.assert_array_equal(found[z, HEIGHT - 1 - y, WIDTH - 1 - x], voxel)

    volume.write(tmp_path / "mask.nii.gz", MASK[: expected[0]])
    same(stack(NiftiVolume(tmp_path / "mask.nii.gz")), MASK[: expected[0]])
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == shape[:3]


@pytest.mark.parametrize("colors", ["RGB", "RGBA"])
def test_nifti_colours(colors, tmp_path):
    array = np.zeros((30, 20, 6), [(color, "u1") for color in colors])
    for color, plane in zip("RGB", np.moveaxis(to_nifti(RGB)[0], -1, 0), strict=True):
        array[color] = plane
    volume = NiftiVolume(save_nifti(tmp_path / "a.nii", array, *to_nifti(CT)[1:]))
    same(stack(volume), RGB)
    volume.write(tmp_path / "mask.nii.gz", MASK)
    same(stack(NiftiVolume(tmp_path / "mask.nii.gz")), MASK)


def test_compressed_volume_is_decompressed_once_and_let_go(tmp_path, monkeypatch):
    path = save_nifti(tmp_path / "a.nii.gz", *to_nifti(CT))
    reads, read = [], NiftiVolume._decompressed
    monkeypatch.setattr(NiftiVolume, "_decompressed", lambda self: reads.append(1) or read(self))
    volume = NiftiVolume(path)
    assert not reads
    stack(volume)
    assert len(reads) == 1
    content = volume._stack
    while isinstance(content.base, np.ndarray):
        content = content.base
    content = weakref.ref(content)
    gc.disable()
    try:
        del volume
        assert content() is None
    finally:
        gc.enable()


def test_other_volume_is_mapped(tmp_path):
    content = NiftiVolume(save_nifti(tmp_path / "a.nii", *to_nifti(CT)))._stack
    while isinstance(content.base, np.ndarray):
        content = content.base
    assert isinstance(content, np.memmap)


IN_PLANE = [((0, *axes), (slices, *flips)) for axes in [(1, 2), (2, 1)]
            for slices in (False, True) for flips in itertools.product([False, True], repeat=2)]  # fmt: skip


@pytest.mark.parametrize(("order", "flips"), IN_PLANE)
@pytest.mark.parametrize("tilt", TILTS, ids=["straight", "oblique"])
def test_axial_dicom_gives_the_slices_of_its_nifti_and_takes_masks_back(order, flips, tilt, tmp_path):
    steps = STEPS @ rotation(tilt).T
    array, file_steps, origin = turned(CT, order, flips, steps)
    series = DicomSeries(save_series(tmp_path / "ct", array, file_steps, origin))
    nifti = NiftiVolume(save_nifti(tmp_path / "ct.nii.gz", *turned(CT, (2, 1, 0), (True, True, False), steps)))
    same(stack(series), CT)
    same(stack(nifti), CT)
    np.testing.assert_allclose(series.affine, affine_of(steps), atol=1e-6)
    np.testing.assert_allclose(series.affine, nifti.affine, atol=1e-4)
    assert (series.path, series.count, series.group, series.suffix) == (tmp_path / "ct", COUNT, "anna", "")

    series.write(tmp_path / "mask", MASK)
    written = DicomSeries(tmp_path / "mask")
    same(stack(written), MASK)
    np.testing.assert_array_equal(written.affine, series.affine)
    assert [file.name for file in written.files] == [file.name for file in series.files]


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
    series.write(tmp_path / "mask", MASK)
    same(stack(DicomSeries(tmp_path / "mask")), MASK)


def test_dicom_without_positions_goes_by_instance_number(tmp_path):
    series = DicomSeries(save_series(tmp_path / "ct", CT, change=lambda i: {"ImagePositionPatient": None}))
    same(stack(series), CT)
    assert series.affine is None
    series.write(tmp_path / "mask", MASK)
    same(stack(DicomSeries(tmp_path / "mask")), MASK)


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


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_dicom_masks_are_a_new_series_of_the_same_geometry(syntax, tmp_path, caplog):
    def change(i):
        values = {"RescaleSlope": 1, "RescaleIntercept": -1024, "SmallestImagePixelValue": 0, "PixelPaddingValue": 0}
        return {"syntax": syntax, "AcquisitionNumber": 3, "SeriesNumber": 5, **values}

    stored = (CT + 1024).astype(np.uint16)
    series = DicomSeries(save_series(tmp_path / "ct", stored, change=change))
    same(stack(series), CT.astype(np.float32))
    for slices, name in [(MASK, "a"), (MASK, "b"), (DEEP, "deep")]:
        series.write(tmp_path / name, slices)
        same(stack(DicomSeries(tmp_path / name)), slices)
    assert not caplog.records
    kept = ["PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "Modality",
            "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "InstanceNumber", "SOPClassUID", "Rows",
            "Columns", "AcquisitionNumber", "SpecificCharacterSet"]  # fmt: skip
    instances = set()
    for i, file in enumerate(series.files):
        assert (tmp_path / "a" / file.name).read_bytes() == (tmp_path / "b" / file.name).read_bytes()
        source, mask = pydicom.dcmread(file), pydicom.dcmread(tmp_path / "a" / file.name)
        for keyword in kept:
            assert mask[keyword].value == source[keyword].value, keyword
        for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "SmallestImagePixelValue",
                        "PixelPaddingValue"):  # fmt: skip
            assert keyword in source and keyword not in mask
        assert mask.ImageType == ["DERIVED", "SECONDARY"] and mask.SeriesDescription == "segmentation"
        assert mask.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert mask.file_meta.MediaStorageSOPInstanceUID == mask.SOPInstanceUID
        assert (mask.BitsAllocated, mask.BitsStored, mask.HighBit, mask.PixelRepresentation) == (8, 8, 7, 0)
        assert mask.SeriesInstanceUID != source.SeriesInstanceUID
        same(mask.pixel_array, MASK[i])
        instances.add(mask.SOPInstanceUID)
    assert len(instances) == COUNT and not instances & {f"1.2.3.4.{i + 1}" for i in range(COUNT)}
    assert pydicom.dcmread(tmp_path / "deep" / "a").SeriesInstanceUID != mask.SeriesInstanceUID
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "ct", "deep"]


def test_masks_leave_out_private_tags_and_overlays_and_take_bad_headers(tmp_path):
    folder = save_series(tmp_path / "ct", CT[:2])
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.private_block(0x0029, "SCANNER", create=True).add_new(1, "LO", "secret")
        dataset.add_new(0x60003000, "OW", b"\0\0")
        with pydicom.config.disable_value_validation():
            dataset.StudyDate = "yesterday"
            dataset.save_as(file)
    DicomSeries(folder).write(tmp_path / "mask", MASK[:2])
    mask = pydicom.dcmread(tmp_path / "mask" / NAMES[0])
    assert not [tag for tag in sorted(mask.keys()) if tag.is_private or tag.group == 0x6000]
    assert mask.get_item("StudyDate").value.strip() in (b"yesterday", "yesterday")


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
    ("frames", a_dicom(DEEP), ["holds 6 frames", "one file a slice"]),
    ("large", with_tag("Rows", 65535), ["not readable as DICOM", "intact"]),
    ("no_rows", with_tag("Rows", 0), ["not readable as DICOM", "intact"]),
    ("bits", with_tag("BitsAllocated", 13), ["not readable as DICOM", "intact"]),
    ("hsv", with_tag("PhotometricInterpretation", "HSV"), ["not readable as DICOM", "intact"]),
    ("jpeg_ls", with_syntax("a", "1.2.840.10008.1.2.4.80"), ["JPEG-LS Lossless", "uncompressed", "pip install"]),
    ("mpeg", with_syntax("a", "1.2.840.10008.1.2.4.100"), ["MPEG2", "uncompressed", "pip install"]),
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
    "frames": (lambda i: {"NumberOfFrames": 3}, ["holds 3 frames", "one file a slice"]),
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


def a_nifti(array=CT, **options):
    return lambda path: save_nifti(path, *to_nifti(array), **options)


def shaped(shape, dtype=np.uint8):
    return lambda path: save_nifti(path, np.ones(shape, dtype), *to_nifti(CT)[1:])


def patched(write, position, data):
    """A file with other bytes in its header, compressed again if it was."""

    def write_and_patch(path):
        write(path)
        packed = path.suffix == ".gz"
        found = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        found[position : position + len(data)] = data
        path.write_bytes(gzip.compress(bytes(found)) if packed else found)

    return write_and_patch


def zipped(data):
    return content(gzip.compress(data))


def wrong_check_sum(path):
    """A file in which a bit has turned, as its check sum tells."""
    save_nifti(path, *to_nifti(CT))
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)


HUGE = struct.pack("<4h", 3, 32767, 32767, 32767)
SFORM, DIM, OFFSET = 280, 40, 108
BAD_NIFTI = [
    ("empty.nii", content(b""), ["the file is empty", "intact"]),
    ("empty.nii.gz", content(b""), ["the file is empty", "intact"]),
    ("text.nii", content(b"not an image " * 50), ["not readable as NIfTI", "intact"]),
    ("text.nii.gz", content(b"not an image " * 50), ["not readable as NIfTI", "intact"]),
    ("nothing.nii.gz", zipped(b""), ["not readable as NIfTI", "intact"]),
    ("zipped_text.nii.gz", zipped(b"not an image " * 50), ["not readable as NIfTI", "intact"]),
    *[(f"cut{share}.nii", cut(a_nifti(), share), ["not readable as NIfTI", "intact"]) for share in (100, 350, 0.5, -1)],
    *[(f"cut{share}.nii.gz", cut(a_nifti(), share), ["not readable as NIfTI", "intact"])
      for share in (15, 100, 0.5, -1)],
    ("check_sum.nii.gz", wrong_check_sum, ["CRC", "intact"]),
    ("huge.nii", patched(a_nifti(), DIM, HUGE), ["truncated", "intact"]),
    ("huge.nii.gz", patched(a_nifti(), DIM, HUGE), ["truncated", "intact"]),
    ("larger.nii.gz", patched(a_nifti(), DIM, struct.pack("<4h", 3, 30, 20, 99)), ["truncated", "intact"]),
    ("negative.nii", patched(a_nifti(), DIM, struct.pack("<4h", 3, 30, -20, 6)), ["no voxels", "intact"]),
    ("no_slices.nii", patched(a_nifti(), DIM, struct.pack("<4h", 3, 30, 20, 0)), ["no voxels", "intact"]),
    ("no_dimensions.nii", patched(a_nifti(), DIM, struct.pack("<h", 0)), ["(0,)", "three dimensions"]),
    ("kind.nii", patched(a_nifti(), 70, struct.pack("<h", 999)), ["not readable as NIfTI", "intact"]),
    ("offset.nii", patched(a_nifti(), OFFSET, struct.pack("<f", 1e9)), ["not readable as NIfTI", "intact"]),
    ("nan.nii", patched(a_nifti(), SFORM, struct.pack("<f", np.nan)), ["affine", "anew"]),
    ("flat.nii", patched(a_nifti(), SFORM, bytes(48)), ["affine", "anew"]),
    ("line.nii", shaped((30,)), ["(30,)", "three dimensions"]),
    ("times.nii", shaped((30, 20, 6, 5)), ["(30, 20, 6, 5)", "4 channels", "three dimensions"]),
    ("vectors.nii", shaped((30, 20, 6, 1, 3)), ["(30, 20, 6, 1, 3)", "three dimensions"]),
    ("complex.nii", shaped((30, 20, 6), np.complex64), ["complex64", "floats"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "words"), BAD_NIFTI, ids=[row[0] for row in BAD_NIFTI])
def test_bad_nifti_is_refused(name, write, words, tmp_path, capfd, caplog):
    write(tmp_path / name)
    with pytest.raises(UserError) as caught:
        stack(NiftiVolume(tmp_path / name))
    sentence(caught, tmp_path / name, *words)
    assert capfd.readouterr() == ("", "") and not caplog.records


@pytest.mark.parametrize("make", [NiftiVolume, read_dicom, patient_of])
def test_missing_file_is_refused(make, tmp_path):
    with pytest.raises(UserError) as caught:
        make(tmp_path / "a.nii")
    sentence(caught, tmp_path / "a.nii", "No such file")


@pytest.fixture(params=["nifti", "dicom"])
def volume(request, tmp_path):
    """A volume of either kind, and where its mask goes."""
    if request.param == "nifti":
        return NiftiVolume(save_nifti(tmp_path / "ct.nii.gz", *to_nifti(CT))), tmp_path / "out" / "mask.nii.gz"
    return DicomSeries(save_series(tmp_path / "ct", CT)), tmp_path / "out" / "mask"


@pytest.mark.parametrize("what", ["file", "folder"])
def test_writing_never_overwrites(volume, what):
    volume, path = volume
    path.parent.mkdir()
    path.mkdir() if what == "folder" else path.write_bytes(b"the user's")
    with pytest.raises(UserError) as caught:
        volume.write(path, MASK)
    sentence(caught, path, "exists already")
    assert list(path.parent.iterdir()) == [path]
    assert what == "folder" or path.read_bytes() == b"the user's"


def test_failed_writing_leaves_nothing(volume, monkeypatch):
    volume, path = volume
    path.parent.mkdir()
    replaced = []

    def full(source, destination):
        replaced.append(list(path.parent.iterdir()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", full)
    with pytest.raises(UserError) as caught:
        volume.write(path, MASK)
    sentence(caught, path, "No space left", "name a folder")
    assert replaced == [[replaced[0][0]]] and replaced[0][0].name.startswith(".")
    assert list(path.parent.iterdir()) == []


def test_writing_into_no_folder_is_refused(volume):
    volume, path = volume
    with pytest.raises(UserError) as caught:
        volume.write(path, MASK)
    sentence(caught, path, "No such file", "name a folder")


@pytest.mark.parametrize("slices", [MASK[:-1], MASK[:, :-1], MASK.astype(np.float32), MASK[..., None]])
def test_writing_takes_masks_of_the_volume_only(volume, slices):
    volume, path = volume
    with pytest.raises(ValueError, match="no mask"):
        volume.write(path, slices)
    assert not path.parent.exists()


@pytest.mark.parametrize("package", ["nibabel", "pydicom"])
def test_missing_packages_are_named(package, tmp_path, monkeypatch):
    nifti, series = save_nifti(tmp_path / "ct.nii", *to_nifti(CT)), save_series(tmp_path / "ct")
    found = importlib.import_module

    def missing(name):
        if name == package:
            raise ImportError(name)
        return found(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    users = {
        "nibabel": [(NiftiVolume, nifti), (DicomSeries, series)],
        "pydicom": [(DicomSeries, series), (read_dicom, series / "a"), (patient_of, series / "a")],
    }
    for make, path in users[package]:
        with pytest.raises(UserError) as caught:
            make(path)
        sentence(caught, path, f"needs the package {package}", "pip install -e '.[medical]'")
    assert is_series(series)
