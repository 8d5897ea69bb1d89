"""A phantom volume, and its DICOM series and NIfTI files in whatever axes."""

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

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


def to_nifti(volume):
    """The axes of an ordinary NIfTI file."""
    return turned(volume, (2, 1, 0), (True, True, False))


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


def save_object(path, kind, **tags):
    """An object without pixels, such as a report; `kind`: its SOPClassUID."""
    tags = {"SOPInstanceUID": "1.2.7", "SeriesInstanceUID": "1.2.3.7", **tags}
    return save_dicom(path, None, SOPClassUID=kind, ImagePositionPatient=None, ImageOrientationPatient=None, **tags)


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


AXES = {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        "PixelMeasuresSequence": {"PixelSpacing": [0.8, 0.7], "SliceThickness": 2.5}}  # fmt: skip


def at(*places):
    """The position of each frame, in steps to the head."""
    return lambda i: {"PlanePositionSequence": {"ImagePositionPatient": list(ORIGIN + places[i] * STEPS[0])}}


def save_enhanced(path, volume=CT, own=None, **tags):
    tags |= {"SOPClassUID": EnhancedCTImageStorage}
    return save_frames(path, volume, own or at(*range(len(volume))), AXES, **tags)


def stack(volume):
    return np.stack([volume.read(i) for i in range(volume.count)])


def same(found, expected):
    """Equal to the bit, and of the same kind."""
    assert found.dtype == expected.dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, expected)


TILTS = [(0, 0, 0), (12, -20, 7)]


def item(**entries):
    """An item of a sequence."""
    dataset = Dataset()
    for keyword, value in entries.items():
        setattr(dataset, keyword, value)
    return dataset


def groups(**macros):
    """The functional groups of a frame: {macro: its entries}."""
    return item(**{macro: [item(**entries)] for macro, entries in macros.items()})


def save_frames(path, volume, own=lambda i: {}, shared=None, **tags):
    """A file of several frames; `own` and `shared`: functional groups, see `groups`."""
    tags |= {"PerFrameFunctionalGroupsSequence": [groups(**own(i)) for i in range(len(volume))]}
    tags |= {"SharedFunctionalGroupsSequence": [groups(**(shared or {}))]}
    usual = dict.fromkeys(["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"])
    return save_dicom(path, volume, **{**usual, **tags})


def damaged(whole, chance):
    """Cut somewhere, or with some bytes changed, most of them in the header."""
    content = bytearray(whole)
    if chance.random() < 0.3:
        return content[: chance.randrange(len(content))]
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(min(len(content), chance.choice([400, 1200, 10**9])))
        size = chance.choice([1, 1, 2, 4])
        content[place : place + size] = chance.choice([b"\0", b"\xff", b"\x7f", chance.randbytes(1)]) * size
    return content
