"""The findings of the check: each fault is found by itself and all of them together, and clean data has none."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from checked_data import GROUPS, change, cut, path, read, report, stem, write_clean
from low_memory import memory_information
from PIL import Image
from scipy import ndimage

from unet_lowlevel.cli.check import main
from unet_lowlevel.config import DataConfig
from unet_lowlevel.data.check import findings
from unet_lowlevel.data.check import report as facts
from unet_lowlevel.data.phantoms.phantom import write_phantoms
from unet_lowlevel.data.splits import split

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_clean(tmp_path_factory.mktemp("data") / "clean")


@pytest.fixture
def data(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


@pytest.fixture(autouse=True)
def without_costs(monkeypatch):
    """The speed of this machine does not matter here."""
    monkeypatch.setattr(facts, "peak_speed", lambda: 1e11)


def unlink(data, kind, index):
    path(data, kind, index).unlink()
    return f"patient-00{index // 3}_slice-0{index % 3}"


def changed(function, kind="masks"):
    """A fault that changes the pixels of one file."""

    def fault(data, index=4):
        change(path(data, kind, index), function)
        return stem(data, index)

    return fault


def blurred(mask):
    return np.rint(ndimage.zoom(ndimage.zoom(mask.astype(float), 0.5, order=1), 2, order=1)).astype(np.uint8)


def as_jpeg(data):
    file = path(data, "masks", 4)
    Image.open(file).save(file.with_suffix(".jpg"), quality=80)
    file.unlink()
    return file.stem


def double_stem(data):
    file = path(data, "images", 4)
    shutil.copy(file, file.with_suffix(".bmp"))
    return file.name


def copied(data, *, image=lambda pixels: pixels, mask=lambda pixels: pixels):
    """A held-out pair replaced by a copy, changed a little, of one to train on."""
    stems = [file.stem for file in sorted((data / "images").iterdir())]
    training, held_out = split(stems, DataConfig(group_regex=GROUPS[1]), 0)
    for kind, function in (("images", image), ("masks", mask)):
        shutil.copy(data / kind / f"{training[1]}.png", data / kind / f"{held_out[1]}.png")
        change(data / kind / f"{held_out[1]}.png", function)
    return held_out[1]


def noisy(image):
    return np.clip(0.9 * image + RANDOM.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def unprintable_name(data):
    file = path(data, "masks", 4)
    shutil.copy(file, file.with_name("a\tb.png"))
    return r"'a\tb.png'"


FAULTS = {
    "a name with a tabulator": (unprintable_name, "error", "files", "rename it"),
    "image without mask": (lambda data: unlink(data, "masks", 4), "error", "files", "same name"),
    "mask without image": (lambda data: unlink(data, "images", 4), "error", "files", "same name"),
    "two images of a stem": (double_stem, "error", "files", "keep one file"),
    "cut image": (lambda data: cut(data, "images", 4), "error", "image", "replace it"),
    "cut mask": (lambda data: cut(data, "masks", 4), "error", "mask", "replace it"),
    "colours": (changed(lambda image: np.dstack([image] * 3), "images"), "error", "channels", "--channels gray"),
    "other size": (changed(lambda mask: mask[:-1]), "error", "size", "nearest neighbour"),
    "gray edges": (changed(blurred), "error", "gray_edges", "resized with nearest neighbour"),
    "JPEG mask": (as_jpeg, "error", "gray_edges", "export them anew as PNG"),
    "more classes": (
        changed(lambda mask: mask // 255 + (np.arange(64) > 40).astype(np.uint8)),
        "error",
        "mask",
        "give --classes 3",
    ),
    "contradiction": (
        lambda data: copied(data, mask=lambda mask: np.roll(mask, 1)),
        "error",
        "contradicting",
        "keep the right mask",
    ),
    "one image on both sides": (copied, "warning", "duplicates", "keep each image once"),
    "nearly one image on both sides": (
        lambda data: copied(data, image=noisy),
        "warning",
        "near_duplicates",
        "keep one of them",
    ),
    "blank image": (changed(lambda image: image * 0 + 7, "images"), "warning", "blank", "take them out"),
    "everything marked": (changed(lambda mask: mask * 0 + 255), "warning", "full", "exchanged"),
    "inverted mask": (changed(lambda mask: 255 - mask), "warning", "inverted", "exchange 0 and 255"),
    "wrong mask": (changed(lambda mask: np.roll(mask, 32, (0, 1))), "warning", "unlike", "of another image"),
    "empty mask": (changed(lambda mask: mask * 0), "note", "empty", "truly nothing"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(name, data, capsys):
    fault, severity, kind, fix = FAULTS[name]
    file = fault(data)
    code, found = report(capsys, data)
    assert found.keys() == {kind}
    assert found[kind]["severity"] == severity and code == int(severity != "note")
    assert file in found[kind]["what"] and fix in found[kind]["fix"]
    assert file in found[kind]["stems"] or kind == "files"


def test_all_faults_at_once(data, capsys, tmp_path):
    write_phantoms(tmp_path / "more", 24, (64, 64), slices_per_patient=3, seed=1)
    for kind in ("images", "masks"):
        for file in (tmp_path / "more" / kind).iterdir():
            shutil.copy(file, data / kind / file.name.replace("patient-0", "patient-1"))
    expected = {}
    # From the last to the first, since some of them remove files.
    work = {
        "contradicting": lambda: FAULTS["contradiction"][0](data),
        "unlike": lambda: FAULTS["wrong mask"][0](data, 41),
        "inverted": lambda: FAULTS["inverted mask"][0](data, 38),
        "full": lambda: FAULTS["everything marked"][0](data, 35),
        "empty": lambda: FAULTS["empty mask"][0](data, 32),
        "blank": lambda: FAULTS["blank image"][0](data, 29),
        "gray_edges": lambda: FAULTS["gray edges"][0](data, 26),
        "size": lambda: FAULTS["other size"][0](data, 23),
        "channels": lambda: FAULTS["colours"][0](data, 20),
        "mask": lambda: cut(data, "masks", 17),
        "image": lambda: cut(data, "images", 14),
        "files": lambda: unlink(data, "masks", 11),
    }
    for kind, fault in work.items():
        expected[kind] = fault()
    code, found = report(capsys, data, "--group-regex", r"patient-\d+")
    assert code == 1 and found.keys() >= expected.keys()
    for kind, file in expected.items():
        assert file in found[kind]["what"], kind
    severities = [finding["severity"] for finding in found.values()]
    assert severities == sorted(severities, key=findings.SEVERITIES.index)
    assert main(["--data", str(data), *GROUPS]) == 1
    output = capsys.readouterr().out
    for finding in found.values():
        told = f"- {finding['what']} fix: {finding['fix']} "
        assert " ".join(told.split()) in " ".join(output.split())
    assert all(len(line) <= 100 for line in output.splitlines() if "/" not in line)
    assert "will not train as it is" in output and "--overfit-one-batch" not in output


def test_many_files_with_one_fault_are_one_finding(data, capsys):
    cut_ones = [cut(data, "images", index) for index in range(8)]
    _, found = report(capsys, data)
    assert found["image"]["stems"] == cut_ones
    assert f"likewise {', '.join(cut_ones[1:6])} and 2 more" in found["image"]["what"]


@pytest.mark.parametrize(
    ("names", "fires"),
    [
        (["benign_{:03}", "malignant_{:03}"], False),
        (["scan{}"], False),
        (["patient3_{:02}", "patient4_{:02}"], True),
        (["anna_{}", "ben_{}", "carla_{}", "dora_{}"], True),
    ],
)
def test_running_numbers_in_a_class_are_no_patients(names, fires, data, capsys):
    for kind in ("images", "masks"):
        for index, file in enumerate(sorted((data / kind).iterdir())):
            file.rename(file.with_name(names[index % len(names)].format(index) + ".png"))
    main(["--data", str(data), "--json"])
    assert fires == ("groups" in {finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]})


def test_names_of_patients_ask_for_groups(clean, data, capsys):
    """Without --group-regex, which the finding proposes, the split tears patients; each on its own is silence."""
    assert main(["--data", str(clean), "--json"]) == 1
    found = {finding["kind"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert found["groups"]["severity"] == "warning" and "patient-00" in found["groups"]["what"]
    regex = found["groups"]["fix"].split("'")[1]
    assert report(capsys, clean, "--group-regex", regex) == (0, {})
    _, found = report(capsys, clean, "--group-regex", ".+")
    assert "groups" not in found
    for kind in ("images", "masks"):
        for index, file in enumerate(sorted((data / kind).iterdir())):
            file.rename(file.with_name(f"slice_{index}.png"))
    assert main(["--data", str(data), "--json"]) in (0, 1)
    assert "groups" not in {finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]}


def test_classes(data, capsys):
    for index in range(24):
        change(path(data, "masks", index), lambda mask: mask // 255)
    _, found = report(capsys, data, "--classes", "3")
    assert found["classes"]["severity"] == "warning" and "class 2 occurs in no mask" in found["classes"]["what"]
    assert "--classes 3" in found["classes"]["fix"]
    first = path(data, "masks", 0).stem
    held_out = data / "held_out.txt"
    held_out.write_text("\n".join(path(data, "masks", index).stem for index in range(3)))
    change(path(data, "masks", 0), lambda mask: np.where(np.arange(64) == 5, 2, mask).astype(np.uint8))
    _, found = report(capsys, data, "--classes", "3", "--validation-list", str(held_out))
    assert found["classes"]["severity"] == "warning" and first in found["classes"]["what"]
    held_out.write_text("\n".join(path(data, "masks", index).stem for index in range(3, 6)))
    _, found = report(capsys, data, "--classes", "3", "--validation-list", str(held_out))
    assert found["classes"]["severity"] == "note" and "no held-out image" in found["classes"]["what"]
    held_out.unlink()
    for index in range(24):
        change(
            path(data, "masks", index),
            lambda mask: np.where(np.arange(64) == 22, mask, 0).astype(np.uint8),
        )
    _, found = report(capsys, data)
    assert found["rare"]["severity"] == "note" and "--loss tversky" in found["rare"]["fix"]


def test_stray_values(data, capsys):
    change(
        path(data, "masks", 4),
        lambda mask: np.where(np.arange(mask.size).reshape(mask.shape) < 2, 100, mask).astype(np.uint8),
    )
    code, found = report(capsys, data, "--mask-values", "0:0,255:1")
    assert code == 0 and found.keys() == {"stray"} and found["stray"]["severity"] == "note"
    assert found["stray"]["what"].startswith("1 mask with a few pixels of the values 100, which --mask-values does not")
    assert stem(data, 4) in found["stray"]["what"]


def test_no_mask_marks_anything(data, capsys):
    for index in range(24):
        change(path(data, "masks", index), lambda mask: mask * 0)
    _, found = report(capsys, data)
    assert found.keys() == {"empty"} and found["empty"]["severity"] == "warning"


def test_split_that_cannot_be_made(data, capsys):
    _, found = report(capsys, data, "--group-regex", "patient")
    assert found["split"]["severity"] == "error" and "single group" in found["split"]["what"]
    _, found = report(capsys, data, "--group-regex", r"person-\d+")
    assert "does not match the stem" in found["split"]["what"]


def test_too_little_memory(clean, capsys, monkeypatch, tmp_path):
    memory_information(monkeypatch, tmp_path, 100)
    _, found = report(capsys, clean)
    assert found.keys() == {"memory"} and found["memory"]["fix"] == "add --stream"
    _, found = report(capsys, clean, "--stream")
    assert found["memory"]["what"].startswith("a training step takes about 0.0")
    memory_information(monkeypatch, tmp_path, 2**20)
    assert report(capsys, clean) == (0, {})


def test_objects_and_stacks(tmp_path, clean, capsys):
    """The other layouts: a folder of masks for each image, and two stacks."""
    (tmp_path / "objects").mkdir()
    for index in range(9):
        name = stem(clean, index)
        for kind in ("images", "masks"):
            (tmp_path / "objects" / name / kind).mkdir(parents=True)
        shutil.copy(path(clean, "images", index), tmp_path / "objects" / name / "images" / f"{name}.png")
        mask = read(path(clean, "masks", index))
        for side, half in (("left", np.arange(64) < 32), ("right", np.arange(64) >= 32)):
            Image.fromarray(np.where(half, mask, 0).astype(np.uint8)).save(
                tmp_path / "objects" / name / "masks" / f"{side}.png"
            )
    assert report(capsys, tmp_path / "objects") == (0, {})
    cut(tmp_path / "objects" / stem(clean, 3), "masks", 1)
    _, found = report(capsys, tmp_path / "objects")
    assert found.keys() == {"mask"} and found["mask"]["stems"] == [stem(clean, 3)]
    for kind in ("images", "masks"):
        stack = np.stack([read(path(clean, kind, index)) for index in range(12)])
        tifffile.imwrite(tmp_path / f"{kind}.tif", stack, photometric="minisblack")
    flags = ["--images", str(tmp_path / "images.tif"), "--masks", str(tmp_path / "masks.tif"), "--json"]
    assert main(flags) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["pairs"] == 12


# Real data


def real(folder, capsys, *flags):
    return report(capsys, folder, "--group-regex", ".+", *flags)


def test_wrong_mask_of_a_lung_is_found(datasets, tmp_path, capsys):
    source = datasets / "lung_ct_mini"
    code, found = real(source, capsys)
    assert code == 0, found
    for kind in ("images", "masks"):
        shutil.copytree(source / kind, tmp_path / kind)
        shutil.copy(source / "excluded" / f"val_02_{kind}.png", tmp_path / kind / "val_02.png")
    code, found = real(tmp_path, capsys)
    assert code == 1 and found["unlike"]["stems"] == ["val_02"]
    assert {finding["kind"] for finding in found.values() if finding["severity"] != "note"} == {"unlike"}


def test_electron_micrographs_are_clean(datasets, capsys):
    code, found = real(datasets / "isbi2012_em", capsys)
    assert code == 0, found


@pytest.mark.slow
def test_nuclei_of_many_kinds_are_clean(datasets, capsys):
    code, found = real(datasets / "dsb2018", capsys, "--channels", "rgb")
    assert code == 0, found
    code, found = real(datasets / "dsb2018", capsys)
    assert code == 1 and found.keys() == {"channels"}
