"""NIfTI volumes: the slices are the same in whatever axes a file has them, and masks go back into these."""

import gc
import gzip
import itertools
import struct
import weakref

import nibabel
import numpy as np
import pytest
from conftest import sentence
from image_files import content, cut
from medical_files import (
    COUNT,
    CT,
    DEEP,
    HEIGHT,
    MASK,
    RANDOM,
    RGB,
    STEPS,
    TILTS,
    WIDTH,
    affine_of,
    rotation,
    same,
    save_nifti,
    stack,
    to_nifti,
    turned,
)

from unet_lowlevel.data.formats.nifti import NiftiVolume
from unet_lowlevel.errors import UserError

ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product([False, True], repeat=3)))


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
