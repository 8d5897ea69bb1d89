"""Splits: nothing lost, nothing twice, no group torn (traps 11 and 12), the same for the same seed."""

import itertools
import random
import re
from pathlib import Path

import pytest

from unet_lowlevel.config import DataConfig
from unet_lowlevel.data import files, splits
from unet_lowlevel.errors import UserError

PATIENTS = {"anna": 7, "bert": 1, "cleo": 3, "dora": 5, "emil": 2, "fred": 4}
STEMS = [f"{name}_{i:02d}" for name, count in PATIENTS.items() for i in range(count)]
REGEX = r"^([a-z]+)_\d+$"


def shuffled(items):
    return random.Random(1).sample(items, len(items))


def owners(stems):
    return {stem.split("_")[0] for stem in stems}


@pytest.mark.parametrize(
    ("regex", "group"),
    [("", "p07_s3"), (r"p\d+", "p07"), (r"p(\d+)_s(\d)", "07"), (r"(x)?_s", "_s"), (r"(?:p)(?P<n>\d+)", "07")],
)
def test_group_is_stem_bracket_or_match(regex, group):
    assert splits.matched_group("p07_s3", regex) == group


@pytest.mark.parametrize("regex", ["", REGEX])
@pytest.mark.parametrize("settings", [{"validation_fraction": 0.3}, {"folds": 4, "fold": 2}])
def test_split_is_a_partition_whatever_the_order(settings, regex):
    data = DataConfig(group_regex=regex, **settings)
    training, validation = splits.split(STEMS, data, seed=3)
    assert sorted(training + validation) == sorted(STEMS)
    assert training and validation
    assert training == sorted(training) and validation == sorted(validation)
    assert splits.split(shuffled(STEMS), data, seed=3) == (training, validation)


@pytest.mark.parametrize("settings", [{"validation_fraction": 0.3}, {"folds": 4, "fold": 2}])
def test_seed_shuffles(settings):
    assert len({tuple(splits.split(STEMS, DataConfig(**settings), seed)[1]) for seed in range(10)}) == 10


def test_split_of_a_seed_never_changes():
    stems = [str(i) for i in range(10)]
    assert splits.split(stems, DataConfig(validation_fraction=0.3), seed=0)[1] == ["0", "3", "8"]
    assert splits.split(stems, DataConfig(folds=3, fold=0), seed=0)[1] == ["1", "7", "8", "9"]


@pytest.mark.parametrize("seed", range(20))
def test_fraction_keeps_groups_whole_and_comes_closest(seed):
    data = DataConfig(validation_fraction=0.25, group_regex=REGEX)
    training, validation = splits.split(STEMS, data, seed)
    assert owners(training).isdisjoint(owners(validation))
    sums = [sum(some) for n in range(1, len(PATIENTS)) for some in itertools.combinations(PATIENTS.values(), n)]
    wanted = 0.25 * len(STEMS)
    assert abs(len(validation) - wanted) == min(abs(number - wanted) for number in sums)


@pytest.mark.parametrize("seed", range(20))
def test_one_large_patient_does_not_take_the_place_of_the_small_ones(seed):
    stems = [f"p0_{i}" for i in range(80)] + [f"p{patient}_{i}" for patient in (1, 2, 3, 4) for i in range(5)]
    training, validation = splits.split(stems, DataConfig(validation_fraction=0.2, group_regex=r"p\d"), seed)
    assert (len(training), len(validation)) == (80, 20)


def test_seeds_choose_among_equally_close_groups():
    groups = {f"p{patient}_{i}": f"p{patient}" for patient in range(9) for i in range(2 + patient % 2)}
    chosen = {
        tuple(splits.split(list(groups), DataConfig(validation_fraction=0.25), seed, groups)[1]) for seed in range(9)
    }
    assert len(chosen) > 4 and {len(stems) for stems in chosen} == {6}


def test_many_groups_are_split_at_once():
    groups = {f"{patient}_{i}": str(patient) for patient in range(3000) for i in range(2 + 2 * (patient % 9))}
    assert len(splits.split(list(groups), DataConfig(), 0, groups)[1]) == pytest.approx(0.2 * len(groups), abs=1)


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(100, 0.55, 55), (10, 0.2, 2), (10, 0.21, 3), (2, 0.2, 1), (2, 0.9, 1), (5, 0.99, 4), (30, 0.001, 1)],
)
def test_fraction_counts_images_and_leaves_one_on_each_side(count, fraction, expected):
    training, validation = splits.split([f"{i:03d}" for i in range(count)], DataConfig(validation_fraction=fraction), 0)
    assert (len(training), len(validation)) == (count - expected, expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("count", "folds"), [(30, 5), (31, 5), (7, 7), (10, 3), (3, 2)])
def test_folds_hold_out_every_image_once(count, folds, seed):
    stems = [f"{i:02d}" for i in range(count)]
    parts = [splits.split(shuffled(stems), DataConfig(folds=folds, fold=fold), seed) for fold in range(folds)]
    assert sorted(stem for _, validation in parts for stem in validation) == stems
    sizes = [len(validation) for _, validation in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(not set(training) & set(validation) for training, validation in parts)


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_groups_whole_and_level(seed):
    parts = [splits.split(STEMS, DataConfig(folds=3, fold=fold, group_regex=REGEX), seed)[1] for fold in range(3)]
    assert sorted(itertools.chain(*parts)) == sorted(STEMS)
    assert sum(len(owners(part)) for part in parts) == len(PATIENTS)
    assert sorted(map(len, parts)) == [7, 7, 8]


def test_list_is_taken_as_written(tmp_path):
    path = tmp_path / "held out.txt"
    path.write_bytes("\ufeff# by the clinic\r\n\r\n  anna_00 \r\nbert_00.PNG\ncleo_01.tiff\ncleo_01\n".encode())
    data = DataConfig(validation_list=str(path))
    training, validation = splits.split(shuffled(STEMS), data, seed=0)
    assert validation == ["anna_00", "bert_00", "cleo_01"]
    assert sorted(training + validation) == sorted(STEMS)
    assert splits.split(STEMS, data, seed=9) == (training, validation)


def test_list_knows_stems_that_look_otherwise(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("#1\na.png\nMu\u0308ller\n", encoding="utf-8")  # decomposed, as macOS writes it
    stems = ["#1", "a.png", "a", "M\u00fcller", "b"]
    assert splits.split(stems, DataConfig(validation_list=str(path)), 0)[1] == ["#1", "M\u00fcller", "a.png"]


def test_list_of_whole_groups_is_taken(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("bert_00\nemil_00\nemil_01\n")
    data = DataConfig(validation_list=str(path), group_regex=REGEX)
    assert owners(splits.split(STEMS, data, 0)[1]) == {"bert", "emil"}


@pytest.mark.parametrize(
    ("stems", "settings", "content", "words"),
    [
        (["p1", "p2", "x"], {"group_regex": r"p\d"}, None, [r"--group-regex 'p\\d'", "'x'", "rename", "the flag out"]),
        (["p1", "p2"], {"group_regex": "p("}, None, ["--group-regex", "'p('", "'p1'", "no regular expression"]),
        (["p1"], {}, None, ["only one image, 'p1', but one group", "add images."]),
        (["p1"], {"group_regex": "p"}, None, ["only one image, 'p1', but one group", "add images."]),
        (["p1"], {"folds": 2}, None, ["one image", "'p1'", "add images"]),
        (["p1", "p1b"], {"group_regex": "p1"}, None, ["2 images of a single group", "--group-regex 'p1'", "mend"]),
        (["a", "b", "c"], {"folds": 4}, None, ["--folds is 4", "only 3 images", "at most"]),
        (["a1", "a2", "b1"], {"folds": 3, "group_regex": "[ab]"}, None, ["--folds is 3", "only 2 groups", "'[ab]'"]),
        (["a", "b"], {}, b"a\nc\nd\n", ["--validation-list", "list.txt", "c, d", "such as a"]),
        (["a", "b"], {}, b"\n# nothing\n", ["--validation-list", "list.txt", "names no image"]),
        (["a", "b"], {}, b"", ["--validation-list", "list.txt", "names no image"]),
        (["a", "b"], {}, b"a\nb.png\n", ["--validation-list", "list.txt", "every image"]),
        (["a", "b"], {}, b"\xff\xfe\x00", ["--validation-list", "list.txt", "UTF-8", "name a text file"]),
        (["a", "b"], {"validation_list": "none.txt"}, None, ["--validation-list none.txt", "No such file"]),
        (["a", "b"], {"validation_list": "."}, None, ["--validation-list .", "directory"]),
        (
            ["a1", "a2", "b1", "b2"],
            {"group_regex": "[ab]"},
            b"a1\nb1\nb2",
            ["--validation-list", "only a part of a,", "--group-regex '[ab]'", "or none"],
        ),
    ],
)
def test_bad_input_is_one_sentence(stems, settings, content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("list.txt").write_bytes(content)
        settings = {**settings, "validation_list": "list.txt"}
    with pytest.raises(UserError) as caught:
        splits.split(stems, DataConfig(**settings), seed=0)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    for word in words:
        assert word in message


def test_folds_of_real_data(datasets):
    """Blocks of ten neighbouring slices stay together, as --group-regex '^\\d' asks."""
    stems = list(files.list_images(datasets / "isbi2012_em" / "images"))
    parts = [splits.split(stems, DataConfig(folds=3, fold=fold, group_regex=r"^\d"), 0)[1] for fold in range(3)]
    assert sorted(itertools.chain(*parts)) == sorted(stems)
    assert all(len({re.match(r"\d", stem).group() for stem in part}) == 1 for part in parts)


BLOCKS = {"blocks": True, "folds": 3}


def folds_of(stems, known=None, **settings):
    data = [DataConfig(fold=fold, **settings) for fold in range(settings["folds"])]
    return [splits.split(shuffled(stems), each, 7, known)[1] for each in data]


def test_blocks_are_neighbours():
    stems = [f"{i:02d}" for i in range(11)]
    assert folds_of(stems, **BLOCKS) == [stems[:4], stems[4:8], stems[8:]]
    _, last = splits.split(shuffled(stems), DataConfig(blocks=True, validation_fraction=0.25), 7)
    assert last == stems[8:]


@pytest.mark.parametrize("by", ["expression", "known"])
def test_blocks_keep_groups_whole(by):
    known = {stem: stem.split("_")[0] for stem in STEMS} if by == "known" else None
    folds = folds_of(STEMS, known, group_regex="" if known else REGEX, **BLOCKS)
    assert [sorted(owners(fold)) for fold in folds] == [["anna", "bert"], ["cleo", "dora"], ["emil", "fred"]]
    assert sorted(itertools.chain(*folds)) == sorted(STEMS)


def test_blocks_of_unequal_groups_are_neighbours_that_come_closest():
    groups = {
        f"{patient}_{i}": patient for patient, size in zip("abcde", (9, 2, 2, 2, 6), strict=True) for i in range(size)
    }
    data = DataConfig(blocks=True, validation_fraction=0.4)  # of 21: 9 by one patient, but 8 or 10 by the last ones
    assert {groups[stem] for stem in splits.split(list(groups), data, 0, groups)[1]} == {"d", "e"}


def test_blocks_of_a_single_volume_are_what_its_folds_are_anyway():
    assert folds_of(list(SLICES), SLICES, **BLOCKS) == folds_of(list(SLICES), SLICES, folds=3)


def test_too_many_blocks_are_refused():
    with pytest.raises(UserError, match="--folds is 3, but there are only 2 images"):
        splits.split(["a", "b"], DataConfig(**BLOCKS), 0)


def test_blocks_of_real_data(datasets):
    stems = list(files.list_images(datasets / "isbi2012_em" / "images"))
    assert folds_of(stems, blocks=True, folds=5) == [stems[i : i + 6] for i in range(0, 30, 6)]


SLICES = {f"scan_{i:03d}": "scan" for i in range(10)}


def test_of_a_single_volume_neighbours_are_held_out():
    """The only other side there is; neighbouring slices resemble each other, so they part at one place."""
    training, validation = splits.split(shuffled(list(SLICES)), DataConfig(validation_fraction=0.25), 5, SLICES)
    assert validation == ["scan_007", "scan_008", "scan_009"] and training == sorted(SLICES)[:7]
    folds = [splits.split(list(SLICES), DataConfig(folds=4, fold=i), 5, SLICES)[1] for i in range(4)]
    assert [len(fold) for fold in folds] == [3, 3, 2, 2] and [s for fold in folds for s in fold] == sorted(SLICES)
    assert len(splits.split(list(SLICES), DataConfig(validation_fraction=0.99), 0, SLICES)[0]) == 1


def test_known_groups_stay_whole_and_the_expression_overrules_them():
    known = {stem: stem.split("_")[0] for stem in STEMS}
    training, validation = splits.split(STEMS, DataConfig(validation_fraction=0.25), 3, known)
    assert owners(training).isdisjoint(owners(validation))
    assert (training, validation) == splits.split(STEMS, DataConfig(validation_fraction=0.25, group_regex=REGEX), 3)
    singles = splits.split(STEMS, DataConfig(group_regex=".*"), 3, known)
    assert singles == splits.split(STEMS, DataConfig(), 3) and not owners(singles[0]).isdisjoint(owners(singles[1]))


def test_a_list_may_cut_the_only_volume_but_no_patient(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("scan_003.tif\n")
    assert splits.split(list(SLICES), DataConfig(validation_list=str(path)), 0, SLICES)[1] == ["scan_003"]
    two = SLICES | {"other_000": "other"}
    with pytest.raises(UserError, match="only a part of scan, of a patient or volume"):
        splits.split(list(two), DataConfig(validation_list=str(path)), 0, two)


def test_too_many_folds_of_volumes_are_refused():
    with pytest.raises(UserError, match="only 10 slices"):
        splits.split(list(SLICES), DataConfig(folds=11), 0, SLICES)
    two = SLICES | {"other_000": "other"}
    with pytest.raises(UserError, match="only 2 groups"):
        splits.split(list(two), DataConfig(folds=3), 0, two)
