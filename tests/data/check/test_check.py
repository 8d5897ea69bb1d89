"""The command that checks a data set: its report, its sheet of pictures, its mistakes."""

import json
import shutil

import numpy as np
import pytest
from checked_data import GROUPS, change, cut, path, read, report, stem, write_clean
from PIL import Image
from skimage.measure import label

from unet_lowlevel import pictures
from unet_lowlevel.cli.check import main
from unet_lowlevel.config import Config
from unet_lowlevel.data.check import report as facts
from unet_lowlevel.data.phantoms import phantom
from unet_lowlevel.training.train import with_default_data


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_clean(tmp_path_factory.mktemp("data") / "clean")


@pytest.fixture
def data(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


@pytest.fixture(autouse=True)
def without_costs(monkeypatch, request):
    """The speed of this machine matters to one test only."""
    if request.node.originalname != "test_costs":
        monkeypatch.setattr(facts, "peak_speed", lambda: 1e11)


def test_clean_data_has_no_findings(clean, capsys):
    assert report(capsys, clean) == (0, {})
    assert main(["--data", str(clean), *GROUPS]) == 0
    output, error = capsys.readouterr()
    output = output.replace(" \\\n     ", "")
    assert error == "" and len(output.splitlines()) < 26
    for words in ("24", "64x64", "uint8", "values 0, 255", "18 to train on, 6 held out", "--overfit-one-batch"):
        assert words in output
    assert f"--data {clean} --group-regex 'patient-\\d+' --overfit-one-batch" in output


def test_flags_are_printed_as_they_are_typed(clean, capsys):
    """Also those without a value, and lists."""
    assert main(["--data", str(clean), *GROUPS, "--stream", "--no-blocks", "--ignore-value=-1,254"]) == 0
    output = capsys.readouterr().out.replace(" \\\n     ", "")
    assert f"--data {clean} --group-regex 'patient-\\d+' --stream --no-blocks --ignore-value=-1,254 --over" in output


def test_how_much_is_labelled(data, capsys):
    """Of 24 masks one is labelled in its upper quarter, and one nowhere."""
    change(path(data, "masks", 3), lambda mask: np.where(np.arange(64)[:, None] < 16, mask, 254).astype(np.uint8))
    assert main(["--data", str(data), *GROUPS, "--ignore-value", "254"]) == 0
    shown = capsys.readouterr().out
    assert "labelled  96.9 % of all pixels; 25 to 100 % of an image, median 100 %" in shown and "0, 254, 255" in shown
    change(path(data, "masks", 5), lambda mask: np.full_like(mask, 254))
    code, found = report(capsys, data, "--ignore-value", "254")
    assert code == 1 and list(found) == ["mask"]
    assert f"{stem(data, 5)}.png has no pixel with a label" in found["mask"]["what"]


def test_label_images_are_masks_and_objects(clean, data, capsys):
    """A number for each object, and nothing else; the refusal names the flag for it."""
    shutil.rmtree(data / "masks")
    (data / "masks").mkdir()
    for file in (clean / "masks").iterdir():
        Image.fromarray(label(read(file)).astype(np.uint16)).save(data / "masks" / file.name)
    code, found = report(capsys, data)
    assert code == 1 and "--mask-values 0:0,other:1 if they are numbers of objects" in found["mask"]["fix"]
    flags = ["--mask-values", "0:0,other:1", "--instances", str(data / "masks")]
    assert report(capsys, data, *flags) == (0, {})


def test_the_demonstration_is_good(clean, tmp_path, monkeypatch, capsys):
    """Its patients are known to the check as to a training; the same slices in another folder are anyone's."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "phantoms").symlink_to(clean)
    monkeypatch.chdir(tmp_path)
    for name in ("data/phantoms", "./data/phantoms/", str(tmp_path / "data" / "phantoms")):
        assert main(["--data", name]) == 0
        assert "good to train on" in capsys.readouterr().out
        assert with_default_data(Config.of(data=name)).data.group_regex == phantom.GROUP_REGEX
        assert with_default_data(Config.of(data=name, group_regex="slice")).data.group_regex == "slice"
    assert main(["--data", str(clean)]) == 1
    assert "some were of one patient" in capsys.readouterr().out


def test_sheet_shows_the_suspicious_first(data, tmp_path, capsys, monkeypatch):
    change(path(data, "masks", 9), lambda mask: 255 - mask)
    change(path(data, "masks", 15), lambda mask: mask[:-1])
    cut(data, "images", 20)
    sheet, written, write = tmp_path / "sheet.png", [], pictures.write
    monkeypatch.setattr(pictures, "write", lambda draw, place, words, width: written.append((place, words)))
    before = {file: file.read_bytes() for file in data.rglob("*.png")}
    assert main(["--data", str(data), *GROUPS, "--sheet", str(sheet)]) == 1
    assert str(sheet) in capsys.readouterr().out
    assert before == {file: file.read_bytes() for file in data.rglob("*.png")}
    words = {place: text for place, text in written}
    assert [text for (_, top), text in written if top < 70] == [
        *("images with masks", "foreground", "frame: error", "frame: warning", "frame: note")
    ]
    width, height = 160 + 12, 160 + 12 + 28
    first = [(words[column * width + 4, 238], words[column * width + 4, 252]) for column in range(4)]
    assert [reason for _, reason in first] == ["size", "image", "inverted", ""]
    assert first[2][0] == stem(data, 9) and (stem(data, 15), "size") in first
    picture = read(sheet)
    assert picture.shape == (70 + 3 * height, 8 * width, 3)
    picture = picture[70:]
    corners = [tuple(picture[row * height, column * width].tolist()) for row in range(3) for column in range(8)]
    errors, warnings = facts.FRAMES["error"], facts.FRAMES["warning"]
    assert corners == [errors, errors, warnings] + [(255, 255, 255)] * 21
    for row in range(3):
        for column in range(8):
            tile = picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert tile[4:164, 4:164].std() > 5 or (row, column) == (0, 1)  # the unreadable one is gray
    monkeypatch.setattr(pictures, "write", write)
    again = tmp_path / "again.png"
    assert main(["--data", str(data), *GROUPS, "--sheet", str(again)]) == 1
    assert (read(again)[238:252] < 128).any() and (read(again)[252:266] < 128).any()  # a name, and a reason


@pytest.mark.parametrize(
    ("name", "words"),
    [("sheet.jpg", "PNG"), ("nowhere/sheet.png", "no folder"), ("there.png", "exists already")],
)
def test_sheet_that_cannot_be_written(name, words, clean, tmp_path, capsys):
    (tmp_path / "there.png").write_text("mine")
    assert main(["--data", str(clean), "--sheet", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["there.png"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--data is not given"),
        (["--data", "nowhere"], "is not a folder"),
        (["--data", "nowhere", "--images", "there"], "--data already names"),
        (["--batch", "4"], "is no flag"),
        (["--resolution", "0"], "--resolution is 0.0, but must be at least 0.01."),
        (["--resolution", "1.5"], "--resolution is 1.5, but must be at most 1.0."),
    ],
)
def test_mistaken_command(flags, words, capsys):
    assert main(flags) == 2
    output, error = capsys.readouterr()
    assert output == "" and words in error and error.count("\n") == 1


@pytest.mark.parametrize("resolution", ["1", "0.5"])
def test_costs(clean, resolution, capsys):
    flags = ["--json", "--plan", "off", "--base-channels", "4", "--depth", "2", "--resolution", resolution]
    assert main(["--data", str(clean), *GROUPS, *flags]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["images"]["sizes"] == {"64x64": 24}
    assert facts["memory"]["decoded_bytes"] == 24 * {"1": 2 * 64 * 64, "0.5": 64 * 64 + 5 * 32 * 32}[resolution]
    assert facts["time"]["crop_size"] == {"1": 64, "0.5": 32}[resolution] and facts["time"]["steps_per_epoch"] == 5
    assert 1e8 < facts["time"]["peak_flops"] < 1e14
    assert facts["time"]["seconds"] * facts["time"]["peak_flops"] > 0 and facts["time"]["epochs"] == 15
