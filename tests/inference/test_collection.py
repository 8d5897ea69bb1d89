"""Prediction of a collection by workers: what is lost is done again, once. Ray itself is in one test and slow ones."""

import functools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import lost_worker
import numpy as np
import pytest
from conftest import sentence
from medical_files import save_nifti
from PIL import Image

from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import collection, folders
from unet_lowlevel.inference.collection import LOSSES, Worker, as_json, from_json, handfuls, told, until_stopped
from unet_lowlevel.inference.images import find_images, units
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.inference.results import Outputs, Wanted
from unet_lowlevel.inference.separation import Separation
from unet_lowlevel.training.interruption import StopSignals


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of nine images, of which one is damaged, and a volume."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "images"
    folder.mkdir()
    for i in range(9):
        Image.fromarray(rng.integers(0, 255, (32, 32 + i), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "4.png").write_bytes(b"\x89PNG")
    save_nifti(folder / "scan.nii.gz", rng.integers(0, 255, (32, 32, 3), dtype=np.uint8), np.eye(3), np.zeros(3))
    return folder


@pytest.fixture(scope="module")
def alone(tiny_run, images, tmp_path_factory):
    """What is predicted of them by one process."""
    output = tmp_path_factory.mktemp("out") / "alone"
    assert run_predict(tiny_run, images, output) == 3
    return files_in(output)


def run_predict(run, images, output, *flags):
    return predict(["--run", str(run), "--images", str(images), "--output", str(output), "--overlays", *flags])


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".jsonl"}


def worker(run, output: Path) -> Worker:
    """A worker as Ray starts it, and starts it again."""
    output.mkdir(exist_ok=True)
    begun = (output / "predict.jsonl", {})
    return Worker(functools.partial(load, run), output, Wanted(1, with_overlays=True), begun, 1, 9, "ab")


def test_images_and_slices_travel_as_text():
    images = {"a": Path("a.png"), "v_000": Slice(Path("v"), 0, "1.2"), "v_001": Slice(Path("v"), 1, "1.2")}
    assert from_json(as_json([images, {}])) == [images, {}]


def test_packed_images_travel_by_name(phantoms_packed):
    handful = units(find_images([str(phantoms_packed)]))
    assert len(handful) == 12 and from_json(as_json(handful)) == handful


def test_handfuls_of_packed_images_are_as_large_as_their_records(phantoms_packed, monkeypatch):
    handful = units(find_images([str(phantoms_packed)]))
    monkeypatch.setattr(collection, "BYTES", sum(image.record.length for (image,) in map(dict.values, handful[:3])))
    assert len(handfuls(handful, 1)[0]) == 1
    monkeypatch.setattr(collection, "HANDFUL", 99)
    assert len(handfuls(handful * 8, 1)[0]) == 3


@pytest.mark.parametrize("flags", [[], ["--shard", "0/2"]])
def test_packed_images_are_predicted_like_files(tiny_run, phantoms, phantoms_packed, flags, tmp_path):
    for images, output in ((phantoms / "images", tmp_path / "files"), (phantoms_packed, tmp_path / "packed")):
        assert run_predict(tiny_run, images, output, *flags) == 0
    assert files_in(tmp_path / "packed") == files_in(tmp_path / "files")
    assert len(files_in(tmp_path / "packed")) == (12 if flags else 24)
    if not flags:
        (report,) = worker(tiny_run, tmp_path / "worker").predict(units(find_images([str(phantoms_packed)])))
        assert report["written"] == 12 and files_in(tmp_path / "worker") == files_in(tmp_path / "files")


def test_workers_report_what_belongs_to_no_object(tiny_run, phantoms, tmp_path):
    wanted = Wanted(1, separation=Separation(0, 0.99))
    one = Worker(functools.partial(load, tiny_run), tmp_path, wanted, (tmp_path / "predict.jsonl", {}), 1, 9, "ab")
    reports = one.predict(units(find_images([str(phantoms / "images")])))
    outputs = Outputs({}, tmp_path, Wanted(1))
    assert len(list(told(reports, outputs))) == 12
    assert 0 < outputs.lost <= outputs.foreground


@pytest.mark.parametrize(
    ("items", "workers", "size", "most", "count"),
    [
        (1, 4, 9, 1, 1),
        (9, 4, 9, 1, 9),
        (1000, 4, 9, 31, 33),
        (9000, 2, 9, 256, 36),
        (99, 1, 2**23, 2, 50),
        (9, 1, 2**25, 1, 9),
    ],
)
def test_handfuls_are_small_but_not_too_many(items, workers, size, most, count, tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(size)
    found = handfuls([{str(i): tmp_path / "a.png"} for i in range(items)], workers)
    assert [stem for handful in found for images in handful for stem in images] == list(map(str, range(items)))
    assert max(map(len, found)) == most and len(found) == count


def test_a_worker_writes_what_prediction_does(tiny_run, images, alone, tmp_path):
    (report,) = worker(tiny_run, tmp_path / "out").predict(units(find_images([str(images)])))
    assert len(report["stems"]) == 12 and report["written"] == 11 and not report["lost"] and not report["stopped"]
    assert len(report["failures"]) == 1 and "4.png" in report["failures"][0]
    assert files_in(tmp_path / "out") == alone


def test_what_a_lost_worker_has_written_is_not_written_again(tiny_run, images, alone, tmp_path, monkeypatch):
    handful = units(find_images([str(images)]))
    write, stems = Outputs.write, []

    def lost(self, stem, *rest):
        if len(stems) == 5:
            raise KeyboardInterrupt
        stems.append(stem)
        if len(stems) == 5:
            self.note = None
        write(self, stem, *rest)
        if len(stems) == 5:
            raise KeyboardInterrupt  # as a kill, before the last mask stands in the note, or another one is written

    monkeypatch.setattr(Outputs, "write", lost)
    with pytest.raises(KeyboardInterrupt):
        worker(tiny_run, tmp_path / "out").predict(handful)
    monkeypatch.undo()
    read = []
    monkeypatch.setattr(
        folders,
        "read_image",
        lambda source, data, read_image=folders.read_image: read.append(str(source)) or read_image(source, data),
    )
    reports = worker(tiny_run, tmp_path / "out").predict(handful)
    assert files_in(tmp_path / "out") == alone
    assert len(reports) == len(handful) and reports[0]["lost"] and sum(report["written"] for report in reports) == 11
    assert len(read) == 12 - 5 and not {str(images / f"{stem}.png") for stem in stems} & set(read)
    noted = [json.loads(line) for line in (tmp_path / "out" / "predict_ab.jsonl").read_text().split("\n") if line]
    assert {line["file"] for line in noted if "file" in line} == alone.keys()


def test_an_image_that_ends_every_worker_is_given_up_and_the_others_are_done(
    tiny_run, images, alone, tmp_path, monkeypatch
):
    handful, losses = units(find_images([str(images)])), 0

    def deadly(source, data, read_image=folders.read_image):
        if str(source).endswith("6.png"):
            raise KeyboardInterrupt
        return read_image(source, data)

    monkeypatch.setattr(folders, "read_image", deadly)
    for _ in range(LOSSES + 1):
        try:
            reports = worker(tiny_run, tmp_path / "out").predict(handful)
        except KeyboardInterrupt:
            losses += 1
    assert losses == LOSSES
    failures = [failure for report in reports for failure in report["failures"]]
    assert sorted(failure.split()[0] for failure in failures) == [str(images / "4.png"), str(images / "6.png")]
    assert files_in(tmp_path / "out") == {name: alone[name] for name in alone if not name.startswith("6")}


def test_a_worker_that_cannot_write_ends_the_prediction(tiny_run, images, tmp_path, monkeypatch):
    def full(self, *_):
        raise UserError("0.png is not writable (No space left on device): name a folder with room in it.")

    monkeypatch.setattr(Outputs, "write", full)
    (report,) = worker(tiny_run, tmp_path / "out").predict(units(find_images([str(images)]))[:2])
    outputs = Outputs({}, tmp_path / "out", Wanted(1))
    with pytest.raises(UserError) as caught:
        list(told([report], outputs))
    sentence(caught, "0.png is not writable", "add --resume")


def test_no_report_is_waited_for_after_a_signal():
    signals = StopSignals()

    def rows():
        yield {"report": "1"}
        signals.received = signal.SIGINT
        time.sleep(60)

    begun = time.monotonic()
    assert list(until_stopped(rows, signals)) in ([], [1])
    assert time.monotonic() - begun < 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray
def test_ray_predicts_what_one_process_does(tiny_run, images, alone, tmp_path, capsys, monkeypatch):
    """With relative names, a damaged image, and the rest after it is mended."""
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images, "in")
    assert run_predict(tiny_run, "in", "out", "--cluster", "ray", "--workers", "2") == 3
    output, error = capsys.readouterr()
    assert output == "wrote masks of 11 images to out\n"
    assert error.splitlines()[0] == "starting Ray ..." and error.splitlines()[1].startswith("1 of 12 images could not")
    assert error.splitlines()[2].startswith("in/4.png") and len(error.splitlines()) == 4
    assert files_in(tmp_path / "out") == alone
    shutil.copy(images / "5.png", "in/4.png")
    assert run_predict(tiny_run, "in", "out", "--resume") == 0
    assert capsys.readouterr().out == "wrote masks of 1 images to out; 11 were there\n"
    assert Path("out/4.png").read_bytes() == alone["5.png"] and not list(Path("out").glob("predict*"))


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(tmp_path):
    lost_worker.compare(tmp_path, 300, 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_and_keeps_what_is_finished(number, phantoms, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for copy in range(60):
        for path in (phantoms / "images").iterdir():
            shutil.copy(path, images / f"{copy}_{path.name}")
    process = lost_worker.start(images, out, "--cluster", "ray", "--workers", "2")
    while not list(out.glob("*.png")):
        time.sleep(0.1)
    workers = lost_worker.workers_of(process)
    begun = time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert time.monotonic() - begun < 20 and workers
    assert f"stopped by {number.name}" in Path(f"{out}.log").read_text()
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)
    there = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert lost_worker.start(images, out, "--resume").wait() == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}.items() >= there.items()
    assert len(list(out.iterdir())) == 720
