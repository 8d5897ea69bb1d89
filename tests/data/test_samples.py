"""Samples: images stay with their masks, and are normalized without regard to the file's depth (traps 8 and 9)."""

import numpy as np
import pytest
import tifffile
from conftest import sentence
from image_files import BINARY, GRAY, RANDOM, RGB, write_pairs

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, samples
from unet_lowlevel.data.check.inspection import measure
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import resolve


def test_samples_hold_their_own_mask(tmp_path):
    """Trap 8: every pair carries its number in the image and in the mask."""
    arrays = [(np.full((4, 5 + i), i, np.uint8), (np.arange(20 + 4 * i) == i).reshape(4, 5 + i) * np.uint8(255))
              for i in range(6)]  # fmt: skip
    pairs = write_pairs(tmp_path, *arrays)
    seen = []

    def progress(items):
        for item in items:
            seen.append(item.stem)
            yield item

    read = list(samples.decoded(progress(pairs[::-1]), resolve()))
    assert seen == list("fedcba")
    for sample in read:
        i = "abcdef".index(sample.stem)
        assert sample.image.shape == (4, 5 + i, 1) and (sample.image == i).all()
        assert sample.label.shape == (4, 5 + i) and sample.label.ravel().tolist().index(1) == i
        assert sample.label.sum() == 1


def test_mask_of_another_size_is_refused(tmp_path):
    pairs = write_pairs(tmp_path, (GRAY, BINARY), (GRAY, BINARY.T.copy()))
    with pytest.raises(UserError) as caught:
        list(samples.decoded(pairs, resolve()))
    sentence(caught, pairs[1].image, "20x30", pairs[1].masks[0], "30x20", "nearest neighbour")


def test_nan_is_refused_only_where_something_is_marked(tmp_path):
    """When training reads it, and in the check."""
    image, outside = GRAY.astype(np.float32), BINARY.copy()
    image[0, 0], outside[0, 0], outside[5, 5] = np.nan, 0, 1
    inside = outside.copy()
    inside[0, 0] = 1
    for pair in write_pairs(tmp_path, (GRAY, outside), (GRAY, inside)):
        pair.image.unlink()
        tifffile.imwrite(pair.image.with_suffix(".tif"), image)
    pairs = files.find_pairs(DataConfig(data=str(tmp_path)))
    config = resolve(flags={"nan": "background"})
    (sample,) = samples.decoded(pairs[:1], config)
    assert (sample.image[0, 0] == 0).all() and np.isfinite(sample.image).all()
    mistakes = []
    assert measure(pairs[0], config, mistakes).image.low == sample.image.min() and not mistakes
    with pytest.raises(UserError) as caught:
        list(samples.decoded(pairs, config))
    sentence(caught, pairs[1].image, "where its mask marks something")
    assert measure(pairs[1], config, mistakes).image is None and str(mistakes[0].error) == str(caught.value)


def test_gray_and_colour_together_are_refused(tmp_path):
    pairs = write_pairs(tmp_path, (RGB, BINARY), (GRAY, BINARY), (GRAY, BINARY))
    with pytest.raises(UserError) as caught:
        list(samples.decoded(pairs, resolve()))
    sentence(
        caught,
        f"2 with 1 (as {pairs[1].image})",
        f"1 with 3 (as {pairs[0].image})",
        "--channels gray or --channels rgb",
    )


def normalized(image, kind, bounds=()):
    image = np.asarray(image)
    result = samples.normalization(image, DataConfig(normalization=kind, normalization_range=bounds))(image)
    assert result.dtype == np.float32
    return result


def test_normalization_by_hand():
    image = np.array([[[0], [2]], [[4], [2]]], np.uint8)  # mean 2, variance 2
    np.testing.assert_allclose(normalized(image, "standard").ravel(), np.array([-2, 0, 2, 0]) / np.sqrt(2), rtol=1e-7)
    np.testing.assert_array_equal(normalized(image, "minmax").ravel(), [0, 0.5, 1, 0.5])
    np.testing.assert_array_equal(normalized(image, "range", (1.0, 3.0)).ravel(), [0, 0.5, 1, 0.5])


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_normalization_does_not_see_the_depth_of_the_file(kind):
    """Trap 9: neither a dark image nor one of 16 bits differs from the same picture in 8 bits."""
    image = RGB // 2
    expected = normalized(image, kind)
    np.testing.assert_allclose(normalized(image * np.uint16(257), kind), expected, atol=1e-6)
    np.testing.assert_allclose(normalized(image.astype(np.float32) / 1000, kind), expected, atol=1e-5)
    np.testing.assert_allclose(normalized(image.astype(np.float32) * 1e-30, kind), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("value", [0.0, 0.1, 255.0, -1000.3, 3e38])
def test_constant_image_becomes_zero(kind, value):
    assert (normalized(np.full((37, 41, 3), value, np.float32), kind) == 0).all()


def test_normalization_takes_all_channels_together():
    result = normalized(np.dstack([GRAY, GRAY + np.uint8(0), np.zeros_like(GRAY)]), "standard").astype(np.float64)
    assert abs(result.mean()) < 1e-6 and abs(result.std() - 1) < 1e-6
    assert result[..., 0].mean() > result[..., 2].mean()


def test_standard_of_large_values_keeps_its_digits():
    image = (1e6 + BINARY[..., None]).astype(np.float32)
    np.testing.assert_allclose(normalized(image, "standard"), normalized(BINARY[..., None], "standard"), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(333, 511, 1), (200, 301, 3), (90, 11, 1)])
def test_statistics_in_strips_have_the_bits_of_those_at_once(monkeypatch, dtype, shape):
    monkeypatch.setattr(samples, "STRIP", 1000)
    image = (RANDOM.normal(size=shape) * 1000 + 30000).astype(dtype)
    x = image.astype(np.float64)
    assert samples.normalization(image, DataConfig()) == samples.Normalization(x.mean(), x.std())
    np.testing.assert_array_equal(normalized(image, "standard"), ((x - x.mean()) / x.std()).astype(np.float32))


def test_a_window_is_normalized_as_the_whole_image_is():
    sample = samples.with_normalization(samples.Sample("a", RGB, BINARY), DataConfig())
    rows, columns = np.array([3, 2, 1, 0, 1]), np.array([29, 28, 29])
    image, label = sample.window(rows, columns)
    np.testing.assert_array_equal(image, sample.normalized()[rows][:, columns])
    np.testing.assert_array_equal(label, BINARY[rows][:, columns])
    assert image.dtype == np.float32 and label.dtype == np.uint8 and sample.image is RGB


def test_without_a_normalization_pixels_stay_as_they_are():
    image = np.array([[[1e-30], [np.float32(0.1)], [-3e38]]], np.float32)
    result = samples.Sample("a", image, BINARY[:1, :3]).normalized()
    assert result.dtype == np.float32 and result is not image
    np.testing.assert_array_equal(result, image)


def test_class_counts_in_strips(monkeypatch):
    monkeypatch.setattr(samples, "STRIP", 7)
    label = np.array([[0, 0, 5], [1, 5, 0], [0, 0, 0], [0, 0, 1]], np.uint8)
    assert samples.Sample("a", label, label).class_counts.tolist() == [8, 2, 0, 0, 0, 2]
    assert samples.Sample("a", label, label * 0).class_counts.tolist() == [12]
    assert samples.Sample("a", label, label * 51).class_counts.tolist() == [8, *[0] * 50, 2]  # 5 becomes `IGNORED`


@pytest.mark.parametrize(("name", "count"), [("isbi2012_em", 30), ("lung_ct_mini", 26), ("dsb2018", 664)])
def test_real_data_is_read(datasets, name, count):
    pairs = files.find_pairs(DataConfig(data=str(datasets / name)))
    assert len(pairs) == count
    for item in samples.decoded(pairs[:2], resolve()):
        assert item.image.dtype == np.uint8 and item.label.max() == 1
        result = samples.normalization(item.image, DataConfig())(item.image)
        assert abs(result.mean()) < 1e-4 and abs(result.std() - 1) < 1e-4


def test_real_mixture_of_gray_and_colour_is_refused(datasets):
    pairs = files.find_pairs(DataConfig(data=str(datasets / "dsb2018")))
    kinds = {files.read_image(pair.image).shape[2]: pair for pair in pairs[::7]}
    assert sorted(kinds) == [1, 3]
    with pytest.raises(UserError, match="add --channels gray"):
        list(samples.decoded(list(kinds.values()), resolve()))
