"""The intervals of scores by bootstrap, beside groups drawn one by one."""

import numpy as np
import pytest

from unet_lowlevel.scoring.curves import pixel_counts
from unet_lowlevel.scoring.intervals import intervals
from unet_lowlevel.scoring.scorers import scores_of


def example(seed, pixels=60):
    """Labels [N] and probabilities [N, 1] that go together, but not always; some probabilities are equal."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, pixels)
    logits = np.round(random.normal(size=(pixels, 1)), 1) + 1.0 * (labels[:, None] == 0)
    return labels, (1 / (1 + np.exp(-logits - 2 * labels[:, None]))).astype(np.float32)


def counts_of_images(images=7):
    """Of random images, one of them without foreground."""
    found = []
    for seed in range(images):
        labels, probabilities = example(seed)
        found.append(pixel_counts(labels * (seed != 3), probabilities, 0.5))
        found[-1]["surfaces"] = np.array([seed, seed / 2, 1.0])
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def quantile(values, share):
    """Between the two of the sorted values that are nearest to it, linearly."""
    values = sorted(values)
    below, part = divmod(share * (len(values) - 1), 1)
    return values[int(below)] + part * (values[min(int(below) + 1, len(values) - 1)] - values[int(below)])


def resampled(counts, repeats, groups):
    """The intervals by loops: groups drawn as `intervals` draws them, the counts of their images added one by one."""
    names, each = sorted(set(groups)), scores_of(counts)
    drawn = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), repeats)
    found = {"all_images": [], "mean_over_images": []}
    for times in drawn:
        chosen = [i for name, count in zip(names, times, strict=True) for i in np.flatnonzero(groups == name) if count]
        chosen = [i for i in chosen for _ in range(times[names.index(groups[i])])]
        summed = {name: np.sum([values[i] for i in chosen], axis=0) for name, values in counts.items()}
        found["all_images"].append(scores_of(summed))
        found["mean_over_images"].append({name: np.nanmean(values[chosen]) for name, values in each.items()})
    return {
        what: {name: [quantile([value[name] for value in values], q) for q in (0.025, 0.975)] for name in each}
        for what, values in found.items()
    }


def assert_intervals(found, expected):
    for what, of_scores in expected.items():
        assert list(found[what]) == list(of_scores)
        for name, values in of_scores.items():
            np.testing.assert_allclose(found[what][name], values, rtol=1e-9, atol=1e-12, err_msg=f"{what} {name}")


@pytest.mark.parametrize("groups", ["abcdefg", "baabcba", "xxxxxyx"])
def test_intervals_are_those_of_groups_drawn_one_by_one(groups):
    counts, groups = counts_of_images(), np.array(list(groups))
    found = intervals(counts, 60, groups)
    assert_intervals(found, resampled(counts, 60, groups))
    assert intervals(counts, 60, groups) == found  # the same seed


def test_intervals_of_images_that_are_groups_are_those_of_images():
    """Bit for bit, whatever the groups are called, in the order of the stems."""
    counts = counts_of_images()
    drawn = np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), 300)
    pooled = scores_of({name: np.tensordot(drawn, values, 1) for name, values in counts.items()})
    found = intervals(counts, 300, [f"image_{i}" for i in range(7)])
    for name, values in pooled.items():
        assert found["all_images"][name] == np.percentile(values, [2.5, 97.5]).tolist()


def test_intervals_by_patient_are_wider_where_images_of_a_patient_are_alike():
    """Four patients of five equal images: only the mixture of patients varies."""
    four = {name: values[[0, 1, 2, 4]] for name, values in counts_of_images().items()}
    counts = {name: np.repeat(values, 5, 0) for name, values in four.items()}
    by_image = intervals(counts, 400, np.arange(20))["mean_over_images"]["dice"]
    by_patient = intervals(counts, 400, np.repeat(np.arange(4), 5))["mean_over_images"]["dice"]
    assert by_patient == intervals(four, 400, np.arange(4))["mean_over_images"]["dice"]
    assert by_patient[1] - by_patient[0] > 1.8 * (by_image[1] - by_image[0])


def test_intervals_of_equal_images_are_points():
    counts = {name: np.stack([values[0]] * 5) for name, values in counts_of_images().items()}
    for what in intervals(counts, 50, np.arange(5)).values():
        for name, (low, high) in what.items():
            assert low == pytest.approx(high) == pytest.approx(float(scores_of(counts)[name][0]))
