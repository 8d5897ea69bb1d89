"""Small compressed volumes that would become huge: no more of them is decompressed than their pixels take."""

import gzip
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from conftest import sentence
from medical_files import CT, dicom, same, save_dicom, save_nifti, stack, to_nifti
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from unet_lowlevel.data.formats.dicom import read_dicom
from unet_lowlevel.data.formats.dicom_series import DicomSeries
from unet_lowlevel.data.formats.nifti import NiftiVolume
from unet_lowlevel.errors import UserError

HUGE = 2**27
PIXELS = b"\xe0\x7f\x10\x00OW\0\0"


def zeros(compress, count):
    """What `compress` returns for so many zeros, piece by piece."""
    return [compress(bytes(2**20)) for _ in range(count // 2**20)]


def deflated(path, volume=CT[0], change=lambda content: [content]):
    """A deflated file; `change` makes parts of its content, a number for as many zeros."""
    save_dicom(path, volume, syntax=DeflatedExplicitVRLittleEndian)
    whole, start = path.read_bytes(), 144 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [
        b"".join(zeros(deflate.compress, part)) if isinstance(part, int) else deflate.compress(part)
        for part in change(zlib.decompress(whole[start:], -zlib.MAX_WBITS))
    ]
    path.write_bytes(whole[:start] + b"".join(parts) + deflate.flush())
    return path


def test_deflated_files_are_read(tmp_path):
    same(read_dicom(deflated(tmp_path / "a.dcm")), CT[0])
    same(stack(DicomSeries(deflated(tmp_path / "b.dcm", CT))), CT)


def with_long_pixels(content):
    return content[: content.index(PIXELS)], PIXELS + struct.pack("<I", HUGE), HUGE


def with_long_header(content):
    return b"\x07\0\x10\0OB\0\0" + struct.pack("<I", HUGE), HUGE, content


@pytest.mark.parametrize("change", [with_long_pixels, with_long_header])
def test_a_deflated_bomb_takes_little_memory(change, tmp_path):
    path = deflated(tmp_path / "a.dcm", change=change)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read_dicom(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sentence(caught, path, "not readable as DICOM", "intact")
    assert peak < HUGE


def test_what_a_deflated_file_claims_is_limited(tmp_path):
    path = deflated(tmp_path / "a.dcm", CT)
    for read in (lambda: read_dicom(path, 0.0005, 0), lambda: read_dicom(path, 0.001, 0)):
        with pytest.raises(UserError) as caught:
            read()
        sentence(caught, "a.dcm is 20x30 pixels", "--max-megapixels 0.00")


@pytest.mark.parametrize(("form", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)])
@pytest.mark.parametrize("frame", [None, 1])
def test_a_compressed_image_larger_than_its_header_says_is_not_decoded(form, syntax, frame, tmp_path, monkeypatch):
    frames = []
    for size in ((30, 20), (400, 300)):
        buffer = io.BytesIO()
        Image.new("L", size).save(buffer, form)
        frames.append(buffer.getvalue())
    dataset = dicom(np.zeros((2, 20, 30) if frame else (20, 30), np.uint8))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate(frames if frame else frames[1:])
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    if frame:
        same(read_dicom(tmp_path / "a.dcm", frame=0), np.zeros((20, 30), np.uint8))
    decoded = []
    monkeypatch.setattr(pydicom.pixels, "pixel_array", lambda *args, **options: decoded.append(args))
    with pytest.raises(UserError) as caught:
        read_dicom(tmp_path / "a.dcm", frame=frame)
    sentence(caught, "20x30 pixels by its header, 120000 by its compressed image", "intact")
    assert not decoded


def nifti(path, change):
    """A compressed file; `change` makes the parts of its content."""
    with gzip.open(save_nifti(path, *to_nifti(CT))) as file:
        whole = bytearray(file.read())
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in change(whole):
            zeros(file.write, part) if isinstance(part, int) else file.write(part)
    return path


def test_zeros_behind_the_voxels_are_not_read(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", lambda whole: (whole, 2**24))
    path.write_bytes(path.read_bytes()[:-1000])  # which is why nobody sees that they are cut
    same(stack(NiftiVolume(path)), CT)


def test_a_few_bytes_behind_the_voxels_are_read_for_the_checksum(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", lambda whole: (whole, bytes(1000)))
    same(stack(NiftiVolume(path)), CT)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="CRC"):
        stack(NiftiVolume(path))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("value", [2.0**30, 1e38, -1.0, np.nan])
def test_a_header_that_claims_to_be_huge_is_refused(version, value, tmp_path):
    def far(whole):
        if version == 1:
            struct.pack_into("<f", whole, 108, value)
            return (whole,)
        whole = bytearray(struct.pack("<i", 540)) + bytes(540)
        struct.pack_into("<q", whole, 168, int(min(value, 2**62)) if value == value else -(2**63))
        return (whole,)

    with pytest.raises(UserError) as caught:
        NiftiVolume(nifti(tmp_path / "a.nii.gz", far))
    sentence(caught, "a.nii.gz is not readable as NIfTI", "its voxels begin at byte")


def test_an_extension_that_claims_to_be_huge_is_not_decompressed(tmp_path):
    def long(whole):
        whole[348] = 1
        return (whole[:352], struct.pack("<ii", HUGE, 6), HUGE)

    path = nifti(tmp_path / "a.nii.gz", long)
    tracemalloc.start()
    try:
        assert stack(NiftiVolume(path)).shape == CT.shape
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < HUGE / 4


def test_a_damaged_volume_is_decompressed_once(tmp_path, monkeypatch):
    path = save_nifti(tmp_path / "a.nii.gz", *to_nifti(CT))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    volume, opened, found = NiftiVolume(path), [], gzip.open
    monkeypatch.setattr(gzip, "open", lambda *args: opened.append(args) or found(*args))
    sentences = set()
    for index in range(6):
        with pytest.raises(UserError) as caught:
            volume.read(index)
        sentences.add(str(caught.value))
    assert len(opened) == len(sentences) == 1
