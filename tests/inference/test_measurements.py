"""What is measured of objects, beside loops over pixels and figures by hand; and the tables of it."""

import csv
import math
import shutil
import time

import numpy as np
import pytest
from conftest import sentence
from medical_files import save_nifti
from PIL import Image
from test_folders import terminate, written_until
from untrained import untrained_run

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.files import read_image
from unet_lowlevel.data.formats.volumes import open_volume
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import folders
from unet_lowlevel.inference.measurements import measured, read_table, write_all, write_table
from unet_lowlevel.inference.separation import Separation, write_separation


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(tmp_path):
    run = untrained_run(tmp_path / "run")
    write_separation(run, Separation(0.5, 0.55, 3))
    return run


@pytest.fixture
def gallery(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i, size in enumerate([(32, 32), (20, 44), (32, 32)]):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


def run_predict(run, images, output, *flags):
    return predict(["--run", str(run), "--images", str(images), "--output", str(output), "--instances", *flags])


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint16), (2, np.float32)])
def test_measures_are_those_of_a_loop_over_pixels(channels, dtype):
    rng = np.random.default_rng(channels)
    numbers = np.kron(rng.permutation(12).reshape(3, 4), np.ones((5, 7))).astype(np.uint16)
    numbers[rng.random(numbers.shape) < 0.3] = 0
    image = (rng.random((15, 28, channels)) * 200).astype(dtype)
    classes = rng.integers(1, 3, 11)
    found = measured(numbers, classes, image)
    assert found["object"].tolist() == list(range(1, 12)) and found["class"].tolist() == classes.tolist()
    for n in range(11):
        pixels = [place for place in np.ndindex(15, 28) if numbers[place] == n + 1]
        rows, columns = zip(*pixels, strict=True)
        box = (min(rows), min(columns), max(rows) + 1, max(columns) + 1)
        names = ("min_row", "min_column", "max_row", "max_column")
        assert found["area"][n] == len(pixels) and tuple(found[name][n] for name in names) == box
        assert found["touches_border"][n] == (box[0] == 0 or box[1] == 0 or box[2] == 15 or box[3] == 28)
        assert found["centroid_row"][n] == pytest.approx(sum(rows) / len(pixels))
        assert found["centroid_column"][n] == pytest.approx(sum(columns) / len(pixels))
        assert found["area_fraction"][n] == pytest.approx(len(pixels) / (15 * 28))
        assert math.pi / 4 * found["equivalent_diameter"][n] ** 2 == pytest.approx(len(pixels))
        for k in range(channels):
            values = [float(image[place][k]) for place in pixels]
            mean = sum(values) / len(values)
            end = f"_{k}" if channels > 1 else ""
            assert found[f"mean{end}"][n] == pytest.approx(mean, rel=1e-5)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
            assert found[f"std{end}"][n] == pytest.approx(deviation, rel=1e-4)


def test_shapes_by_hand():
    """A square of 4 x 4 has a perimeter of 4 * 3, between the centres of its pixels; a pixel has none."""
    numbers = np.zeros((10, 20), np.uint16)
    numbers[1:5, 1:5], numbers[7, 2:10], numbers[8, 15] = 1, 2, 3
    found = measured(numbers, np.ones(3, int), np.full((10, 20, 1), 7, np.uint8), ("um", 0.5, 0.5))
    assert found["perimeter"].tolist()[0] == 12 and found["perimeter"].tolist()[2] == 0
    assert found["eccentricity"][0] == found["eccentricity"][2] == 0 and found["eccentricity"][1] > 0.98
    assert found["mean"].tolist() == [7] * 3 and found["std"].tolist() == [0] * 3
    assert found["touches_border"].tolist() == [0, 0, 0]
    assert found["area_um2"].tolist() == [4, 2, 0.25] and found["perimeter_um"][0] == 6
    assert found["equivalent_diameter_um"][2] == pytest.approx(2 * math.sqrt(0.25 / math.pi))


def test_pixels_that_are_no_squares_have_an_area_and_no_perimeter():
    numbers = np.ones((2, 3), np.uint16)
    found = measured(numbers, np.ones(1, int), np.zeros((2, 3, 1), np.uint8), ("mm", 0.5, 2.0))
    assert found["area_mm2"].tolist() == [6] and "perimeter_mm" not in found
    assert found["equivalent_diameter_mm"] == pytest.approx(math.sqrt(4 * 6 / math.pi))


def test_tables_of_all_images(run, gallery, tmp_path):
    """Beside the files of instances; areas and lengths also in micrometres."""
    assert run_predict(run, gallery, tmp_path / "out", "--pixel-size", "0.5") == 0
    rows, summary = (table(tmp_path / "out" / f"{name}.csv") for name in ("objects", "summary"))
    assert [row["image"] for row in summary] == ["0", "1", "2"] and len(rows) > 3
    for row in summary:
        numbers = read_image(tmp_path / "out" / f"{row['image']}_instances.png")
        here = [other for other in rows if other["image"] == row["image"]]
        assert [other["object"] for other in here] == [str(n + 1) for n in range(numbers.max())]
        for other in here:
            area = np.count_nonzero(numbers == int(other["object"]))
            assert (other["area"], float(other["area_um2"])) == (str(area), area / 4)
            for name in ("equivalent_diameter", "perimeter"):
                assert float(other[f"{name}_um"]) == pytest.approx(float(other[name]) / 2, rel=1e-6)
        assert row["objects"] == str(numbers.max()) and "objects_class_1" not in row
        total = np.count_nonzero(numbers)
        assert row["total_area"] == str(total) and float(row["total_area_um2"]) == total / 4
        assert float(row["area_fraction"]) == pytest.approx(total / numbers.size)
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)


def test_volumes_are_measured_in_millimetres(run, gallery, tmp_path):
    """Beside images of which no size is known; --pixel-size counts more than the volume."""
    save_nifti(gallery / "scan.nii.gz", np.random.default_rng(0).integers(0, 255, (2, 24, 30)).astype(np.int16))
    assert run_predict(run, gallery, tmp_path / "out") == 0
    affine = open_volume(gallery / "scan.nii.gz").affine
    pixel = np.linalg.norm(affine[:3, 1]) * np.linalg.norm(affine[:3, 2])
    rows = table(tmp_path / "out" / "objects.csv")
    assert {(row["slice"], row["area_mm2"]) for row in rows if row["image"] == "0"} == {("", "")}
    rows = [row for row in rows if row["image"] == "scan"]
    assert {row["slice"] for row in rows} == {"0", "1"}
    assert all(float(row["area_mm2"]) == pytest.approx(int(row["area"]) * pixel, rel=1e-6) for row in rows)
    summary = table(tmp_path / "out" / "summary.csv")
    places = [("0", ""), ("1", ""), ("2", ""), ("scan", "0"), ("scan", "1")]
    assert [(row["image"], row["slice"]) for row in summary] == places
    counts = [sum(row["slice"] == index for row in rows) for index in "01"]
    assert [row["objects"] for row in summary[3:]] == list(map(str, counts)) and min(counts) > 0
    assert run_predict(run, gallery, tmp_path / "um", "--pixel-size", "3", "--format", "png") == 0
    rows = table(tmp_path / "um" / "objects.csv")
    assert "slice" not in rows[0] and "area_mm2" not in rows[0] and rows[-1]["image"] == "scan_001"
    assert all(float(row["area_um2"]) == 9 * int(row["area"]) for row in rows)


def test_a_stop_loses_and_repeats_nothing(run, gallery, tmp_path, monkeypatch, capsys):
    assert run_predict(run, gallery, tmp_path / "undisturbed") == 0
    collected, computed = folders.collected, []

    def slowly(*arguments, **options):
        time.sleep(0.5 * len(computed))  # until the first is written
        computed.append(1)
        return collected(*arguments, **options)

    monkeypatch.setattr(folders, "collected", slowly)
    out, stems = tmp_path / "out", written_until(1, monkeypatch, terminate)
    assert run_predict(run, gallery, out) == 143 and len(stems) < 3
    assert not (out / "objects.csv").exists() and not (out / "summary.csv").exists()
    monkeypatch.undo()
    assert run_predict(run, gallery, out, "--pixel-size", "2", "--resume") == 2
    assert "with pixel_size None, but now it is 2.0" in capsys.readouterr().err
    assert run_predict(run, gallery, out, "--resume") == 0
    same = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed").iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == same


def test_mended_images_come_to_their_place(run, gallery, tmp_path, capsys):
    """The tables are also written without them, and then anew; one that somebody changed is kept beside them."""
    assert run_predict(run, gallery, tmp_path / "undisturbed") == 0
    images, out = shutil.copytree(gallery, tmp_path / "broken"), tmp_path / "out"
    (images / "1.png").write_bytes(b"\x89PNG")
    assert run_predict(run, images, out) == 3
    assert [row["image"] for row in table(out / "summary.csv")] == ["0", "2"]
    shutil.copy(gallery / "1.png", images)
    (out / "0_instances.csv").write_text("object,class,area,area_fraction\n1,1,2,much\n")
    assert run_predict(run, images, out, "--resume") == 0
    assert "0_instances.csv.before" in capsys.readouterr().err
    assert (out / "0_instances.csv.before").read_text().endswith("much\n")
    for name in ("objects.csv", "summary.csv", "0_instances.csv"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


@pytest.mark.parametrize("row", ["1,1,2,much", "1,1,2", "1,1,2,inf"])
def test_a_table_of_other_content_is_refused(row, tmp_path):
    (tmp_path / "a.csv").write_text(f"object,class,area,area_fraction\n{row}\n")
    with pytest.raises(UserError) as caught:
        read_table(tmp_path / "a.csv")
    sentence(caught, "a.csv is not a table of objects", "add --resume")


@pytest.mark.parametrize("name", ["objects.csv", "summary.csv"])
def test_other_tables_are_not_overwritten(name, run, gallery, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    assert run_predict(run, gallery, tmp_path / "out") == 2
    assert f"{name} exists already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9"])
def test_a_pixel_size_that_cannot_be(value, gallery, tmp_path, capsys):
    assert run_predict(tmp_path, gallery, tmp_path / "out", f"--pixel-size={value}") == 2
    error = capsys.readouterr().err
    assert "--pixel-size is " in error and "micrometres" in error and error.count("\n") == 1


def test_a_pixel_size_without_objects(gallery, tmp_path, capsys):
    flags = ["--run", str(tmp_path), "--images", str(gallery), "--output", str(tmp_path / "out"), "--pixel-size", "2"]
    assert predict(flags) == 2
    assert "--pixel-size 2" in capsys.readouterr().err


def test_names_with_commas_and_what_is_no_table(tmp_path):
    columns = measured(np.ones((2, 2), np.uint16), np.ones(1, int), np.zeros((2, 2, 1), np.uint8))
    write_table(tmp_path / 'a, "b"_instances.csv', columns)
    write_all(tmp_path, {"none": 0, 'a, "b"': 0}, 1)
    assert [row["image"] for row in table(tmp_path / "objects.csv")] == ['a, "b"']
    header = b"object,class,area,area_fraction\n"
    for content in (b"", b"\xff,area_fraction\n1\n", header + b"1,1,1\n", header + b"1,1,1,1,1\n"):
        (tmp_path / "none_instances.csv").write_bytes(content)
        with pytest.raises(UserError) as caught:
            write_all(tmp_path, {"none": 0}, 1)
        sentence(caught, "none_instances.csv")
