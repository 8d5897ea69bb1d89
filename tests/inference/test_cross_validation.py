"""Cross-validation: every image is scored once, by a network that has not seen it, and no fold is lost."""

import csv
import gc
import json
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, on_disk, sentence
from kill_and_resume import assert_same_training
from untrained import untrained_run

import unet_lowlevel
from unet_lowlevel import run_folder, settings
from unet_lowlevel.cli.cross_validate import main
from unet_lowlevel.cli.evaluate import main as evaluate
from unet_lowlevel.cli.predict import main as predict
from unet_lowlevel.cli.train import main as train
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.data.files import find_pairs, list_images, read_image
from unet_lowlevel.data.masks import read_mask
from unet_lowlevel.data.storage import gather
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference.cross_validation import read_fold, read_settings
from unet_lowlevel.inference.evaluation import evaluate_pairs
from unet_lowlevel.inference.folds import Fold, predict_held_out, score_rows
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.scoring.counts import class_scores

FLAGS = [*TINY, "--steps-per-epoch", "3", "--folds", "3", "--learning-rate", "0.01", "--pictures", "0"]
FLAGS += ["--no-batch-normalization", "--threshold", "0.18"]  # in six steps not much is learned: scores above 0
SETTINGS_OF_FLAGS = dict(base_channels=2, depth=2, epochs=2, batch_size=4, group_regex=r"patient-\d+")
SETTINGS_OF_FLAGS |= dict(steps_per_epoch=3, folds=3, learning_rate=0.01, pictures=0, batch_normalization=False)
SETTINGS_OF_FLAGS |= dict(threshold=0.18, plan="off")
SCORES = ("dice", "iou", "mean_iou", "precision", "recall", "pixel_error")


@pytest.fixture(scope="module")
def finished(phantoms, tmp_path_factory):
    """A cross-validation that nobody has disturbed, and what it has printed."""
    folder, printed = tmp_path_factory.mktemp("cross") / "validation", tmp_path_factory.mktemp("out") / "printed"
    alive = []
    with pytest.MonkeyPatch.context() as patch, printed.open("w") as file:
        patch.setattr(sys, "stdout", file)
        patch.setattr(sys, "argv", ["scripts/cross_validate_lowlevel.py"])
        flags = ["--run", str(folder), "--data", str(phantoms), *FLAGS]
        gc.collect()
        gc.disable()  # so that it is no chance what is still in memory
        try:
            assert main(flags, lambda step, loss: alive.append(networks())) == 0
        finally:
            gc.enable()
    return folder, printed.read_text(), alive


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


def networks():
    """How many there are in memory."""
    return sum(issubclass(type(thing), UNet) for thing in gc.get_objects())


def folds_of(folder):
    return [folder / f"fold-{i}" for i in range(3)]


def rows_of(folder):
    with (folder / "scores.csv").open() as file:
        return {row["fold"]: row for row in csv.DictReader(file)}


def assert_same(one, two):
    """Everything but the times is the same."""
    for a, b in zip(folds_of(one), folds_of(two), strict=True):
        assert_same_training(a, b)
    names = sorted(path.name for path in (one / "predictions").iterdir())
    assert names == sorted(path.name for path in (two / "predictions").iterdir())
    assert all((one / "predictions" / n).read_bytes() == (two / "predictions" / n).read_bytes() for n in names)
    rows, others = ([row | {"seconds": ""} for row in rows_of(folder).values()] for folder in (one, two))
    assert rows == others


def stems_of(folder, part):
    return [set(run_folder.read(run)[2][part]) for run in folds_of(folder)]


def test_every_image_is_held_out_once_and_groups_are_whole(finished, phantoms):
    training, validation = (stems_of(finished[0], part) for part in ("training", "validation"))
    stems = set(list_images(phantoms / "images"))
    assert sum(map(len, validation)) == len(stems) and set.union(*validation) == stems
    for seen, held_out in zip(training, validation, strict=True):
        assert seen == stems - held_out
        assert not {stem.split("_")[0] for stem in seen} & {stem.split("_")[0] for stem in held_out}


def test_predictions_are_those_of_the_network_that_has_not_seen_the_image(finished, phantoms):
    folder = finished[0]
    images = list_images(phantoms / "images")
    names = {f"{stem}{end}.png" for stem in images for end in ("", "_probability")}
    assert {path.name for path in (folder / "predictions").iterdir()} == names
    predictors = [load(run) for run in folds_of(folder)]
    for predictor, held_out in zip(predictors, stems_of(folder, "validation"), strict=True):
        for stem in held_out:
            found = read_image(folder / "predictions" / f"{stem}_probability.png")
            expected = predictor.probabilities(read_image(images[stem]))
            np.testing.assert_array_equal(found, np.rint(expected * 65535))
            mask = read_image(folder / "predictions" / f"{stem}.png")
            np.testing.assert_array_equal(mask, np.where(expected >= 0.18, 255, 0))
    assert len({predictor.probabilities(read_image(images[stem])).tobytes() for predictor in predictors}) == 3


def test_held_out_images_are_predicted_and_scored_as_stored(phantoms, tmp_path):
    """From samples that are shrunk to half of their sides already."""
    predictor = load(untrained_run(tmp_path / "run", resolution=0.5, data=str(phantoms)))
    pairs = find_pairs(predictor.config.data)[:2]
    samples, _ = gather(pairs, predictor.config, lambda sample: sample)
    counts = predict_held_out(predictor, pairs, samples, tmp_path / "masks", [], lambda items: items)
    expected = evaluate_pairs(predictor, pairs, tmp_path / "scores")
    assert counts["confusion"].sum() == 2 * 32 * 32
    assert class_scores(counts["confusion"])["dice"][1] == expected["dice"] > 0
    for pair in pairs:
        found = read_image(tmp_path / "masks" / f"{pair.stem}_probability.png")
        np.testing.assert_array_equal(found, np.rint(predictor.probabilities(read_image(pair.image)) * 65535))


def test_a_fold_is_the_training_of_that_fold(finished, phantoms, tmp_path):
    flags = ["--run", str(tmp_path / "run"), "--data", str(phantoms), *FLAGS, "--fold", "1"]
    assert train(flags) == 0
    assert_same_training(tmp_path / "run", finished[0] / "fold-1")


def test_scores_are_those_of_the_histories_and_of_the_written_masks(finished, phantoms):
    folder, printed, _ = finished
    rows = rows_of(folder)
    assert list(rows) == ["0", "1", "2", "mean", "std", "pooled"]
    overlap = areas = wrong = 0
    for number, held_out in enumerate(stems_of(folder, "validation")):
        row = rows[str(number)]
        with (folder / f"fold-{number}" / "history.csv").open() as file:
            history = list(csv.DictReader(file))
        best = max(history, key=lambda epoch: float(epoch["validation_dice"]))  # of two epochs
        for name in ("dice", "iou", "mean_iou"):
            assert float(row[name]) == pytest.approx(float(best[f"validation_{name}"]), abs=1e-9)
        assert int(row["epoch"]) == int(best["epoch"]) and int(row["images"]) == len(held_out)
        assert float(row["seconds"]) == pytest.approx(sum(float(epoch["seconds"]) for epoch in history))
        for stem in held_out:
            truth = read_mask(phantoms / "masks" / f"{stem}.png", 1).astype(bool)
            mask = read_mask(folder / "predictions" / f"{stem}.png", 1).astype(bool)
            overlap, areas = overlap + 2 * (truth & mask).sum(), areas + truth.sum() + mask.sum()
            wrong += (truth != mask).sum()
    assert float(rows["pooled"]["dice"]) == pytest.approx(overlap / areas)
    assert float(rows["pooled"]["pixel_error"]) == pytest.approx(wrong / (12 * 32 * 32))
    assert int(rows["pooled"]["images"]) == 12
    for name in SCORES:
        values = [float(rows[str(number)][name]) for number in range(3)]
        assert float(rows["mean"][name]) == pytest.approx(statistics.mean(values))
        assert float(rows["std"][name]) == pytest.approx(statistics.stdev(values))
        assert statistics.stdev(values) > 0
    lines = [line.split() for line in printed.splitlines()]
    for fold, row in rows.items():
        assert any(line[:1] == [fold] and f"{float(row['dice']):.4f}" in line for line in lines)


def test_one_fold_at_a_time_is_in_memory(finished):
    assert len(finished[2]) == 3 * 2 * 3 and len(set(finished[2])) == 1


def test_the_printed_command_predicts_with_all_folds(finished, phantoms, tmp_path):
    folder, printed, _ = finished
    after = printed[printed.index("predict with all folds new images, here those in the folder new_images:\n") :]
    _, script, *flags = shlex.split(after.replace("\\\n", "").splitlines()[1])
    assert Path(script).name == "predict_lowlevel.py"
    flags[flags.index("new_images")], flags[flags.index("--output") + 1] = (
        str(phantoms / "images"),
        str(tmp_path / "out"),
    )
    assert predict([*flags, "--probabilities"]) == 0
    stem, path = next(iter(list_images(phantoms / "images").items()))
    expected = np.mean([load(run).probabilities(read_image(path)) for run in folds_of(folder)], 0)
    found = read_image(tmp_path / "out" / f"{stem}_probability.png")
    np.testing.assert_allclose(found / 65535, expected, rtol=0, atol=2e-5)


def test_a_fold_that_is_gone_is_made_anew_and_the_others_are_kept(finished, copy):
    shutil.rmtree(copy / "fold-1")
    (copy / "scores.csv").unlink()
    kept = {path: path.stat().st_mtime_ns for number in (0, 2) for path in (copy / f"fold-{number}").rglob("*")}
    steps = []
    assert main(["--run", str(copy), "--resume"], lambda step, loss: steps.append(step)) == 0
    assert steps == [1, 2, 3, 4, 5, 6]
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert_same(finished[0], copy)


@pytest.mark.slow
def test_signals_stop_and_resume_goes_on(finished, phantoms, tmp_path, capsys):
    """In an epoch, at the end of the first fold, in the second.

    The last part is from Python: a config in place of flags, and images that are decoded anew for each batch.
    """
    folder, steps = tmp_path / "cross", []
    flags = ["--data", str(phantoms), *FLAGS]
    for step, number in [(2, signal.SIGINT), (6, signal.SIGTERM), (10, signal.SIGINT)]:

        def stop(*_, step=step, number=number):
            steps.append(None)
            if len(steps) == step:
                signal.raise_signal(number)

        assert main(["--run", str(folder), *flags], stop) == 128 + number
        assert len(steps) == step
        error = capsys.readouterr().err.replace(" \\\n     ", "")
        assert f"stopped by {number.name}" in error and f"--run {folder} --resume" in error
        flags = ["--resume"]
    config = unet_lowlevel.Config.of(**SETTINGS_OF_FLAGS, data=str(phantoms), stream=True)
    rows = unet_lowlevel.cross_validate(config, folder, resume=True, on_step=lambda *_: steps.append(None))
    assert len(steps) == 18
    assert not (folder / "decoded").exists()
    assert_same(finished[0], folder)
    assert_rows(rows, folder)
    again = unet_lowlevel.cross_validate(config, str(folder), resume=True, on_step=lambda *_: steps.append(None))
    assert again == rows and len(steps) == 18


def test_killed_while_it_predicts(finished, copy):
    (copy / "fold-2" / "held_out.json").unlink()
    (copy / "predictions" / "patient-000_slice-00.png").unlink()
    mine = stems_of(copy, "validation")[2]
    for stem in mine:  # torn
        (copy / "predictions" / f"{stem}.png").write_bytes(b"")
    restored = shutil.copy(finished[0] / "predictions" / "patient-000_slice-00.png", copy / "predictions")
    steps = []
    assert main(["--run", str(copy), "--resume"], lambda step, loss: steps.append(step)) == 0
    assert steps == [] and Path(restored).exists()
    assert_same(finished[0], copy)


def assert_rows(rows, folder):
    """They are those of scores.csv; what a row of the file leaves empty, it has not."""
    for row, written in zip(rows, rows_of(folder).values(), strict=True):
        assert {name: str(value) for name, value in row.items()} == {n: text for n, text in written.items() if text}


def test_more_scores_later_are_those_of_evaluation(finished, copy, tmp_path):
    steps, expected = [], []
    for number, run in enumerate(folds_of(copy)):
        output = ["--output", str(tmp_path / str(number))]
        assert evaluate(["--run", str(run), "--scores", "instances,boundaries", *output]) == 0
        expected.append(json.loads((tmp_path / str(number) / "metrics.json").read_text()))
    for flags in (["--scores", "boundaries,instances"], []):  # the second time they are remembered
        assert main(["--run", str(copy), "--resume", *flags], lambda step, loss: steps.append(step)) == 0
        rows = rows_of(copy)
        for number, scores in enumerate(expected):
            for name in scores["mean_over_images"]:
                assert float(rows[str(number)][name]) == scores[name]
        assert {"soft_dice", "roc_auc", "ap_75", "warping_error"} <= set(rows["pooled"])
    config, _, scores = read_settings(copy)
    assert scores == ["boundaries", "instances"]
    assert_rows(unet_lowlevel.cross_validate(config, copy, resume=True, scores=["instances"]), copy)
    assert "ap_75" in rows_of(copy)["pooled"] and "warping_error" not in rows_of(copy)["pooled"]
    assert main(["--run", str(copy), "--resume", "--scores", ""], lambda step, loss: steps.append(step)) == 0
    assert steps == []
    assert_same(finished[0], copy)


def test_folds_choose_thresholds(phantoms, tmp_path):
    """As a training does, of objects if it has instance labels; scores of the fold are those of a later evaluation."""
    data = shutil.copytree(phantoms, tmp_path / "data")
    shutil.copytree(data / "masks", data / "instances")
    folder = tmp_path / "folds"
    flags = [
        *TINY,
        "--epochs",
        "1",
        "--steps-per-epoch",
        "1",
        "--pictures",
        "0",
        "--folds",
        "2",
        "--scores",
        "instances",
        "--learning-rate",
        "0.1",
        "--threshold",
        "0",
    ]
    assert main(["--run", str(folder), "--data", str(data), *flags]) == 0
    for number in range(2):
        run, output = folder / f"fold-{number}", tmp_path / str(number)
        assert (run / "instances.json").exists() and (run / "threshold.json").exists()
        result = unet_lowlevel.evaluate(run, output, scores=["instances"])
        assert result["separation"] == json.loads((run / "instances.json").read_text())
        for name in ("ap_50", "dice"):
            assert float(rows_of(folder)[str(number)][name]) == result[name]


def test_scores_that_nobody_knows_are_refused(copy, capsys):
    assert "--scores has 'wrong'" in refused(capsys, "--run", copy, "--resume", "--scores", "wrong")
    path = copy / "cross_validation.json"
    content = json.loads(path.read_text())
    content["run"]["scores"] = ["wrong"]
    path.write_text(json.dumps(content))
    assert "cross_validation.json" in refused(capsys, "--run", copy, "--resume")


def test_last_epochs_are_scored_where_wished_and_python_trains_all_folds(phantoms, tmp_path):
    folder, steps = tmp_path / "cross", []
    config = unet_lowlevel.Config.of(**SETTINGS_OF_FLAGS, data=str(phantoms), keep="last")
    # Of equal epochs the first would be kept.
    config = settings.apply(config, {"learning_rate": 0.0, "folds": 2, "steps_per_epoch": 1})
    rows = unet_lowlevel.cross_validate(config, str(folder), on_step=lambda step, loss: steps.append((step, loss)))
    assert [step for step, _ in steps] == 2 * [1, 2] and all(loss > 0 for _, loss in steps)
    assert_rows(rows, folder)
    assert [rows_of(folder)[fold]["epoch"] for fold in "01"] == ["2", "2"]


def test_a_fold_that_finds_nothing_is_told_of_and_the_others_go_on(phantoms, tmp_path, capsys):
    """Its Dice of 0 counts; the code at the end is 1, also when there is nothing left to do."""
    folder = tmp_path / "cross"
    flags = ["--data", str(phantoms), *FLAGS, "--steps-per-epoch", "1", "--folds", "2", "--epochs", "1"]
    for begin in ([*flags, "--threshold", "0.99"], ["--resume"]):
        assert main(["--run", str(folder), *begin]) == 1
        printed = capsys.readouterr()
        *notes, error = [line for line in printed.err.splitlines() if not line.startswith("warning")]
        told = [f"note: {folder}/fold-{i} is no result, because its network finds none of" for i in (0, 1)]
        assert len(notes) == (0 if begin == ["--resume"] else 2)
        assert all(line.startswith(words) for line, words in zip(notes, told, strict=False))
        assert error.startswith(f"error: fold-0, fold-1 of {folder} found none of the foreground")
        assert "predict with all folds new images" in printed.out
        assert [float(rows_of(folder)[name]["dice"]) for name in ("0", "1", "pooled")] == [0, 0, 0]


def test_a_fold_has_found_nothing_only_where_there_is_something():
    for confusion, nothing in [
        ([[9, 0], [3, 0]], True),
        ([[9, 1], [3, 0]], True),
        ([[9, 0], [3, 1]], False),
        ([[9, 0], [0, 0]], False),
        ([[9, 3], [0, 0]], False),
        ([[9, 0, 0], [1, 0, 3], [0, 0, 0]], True),
        ([[9, 0, 0], [1, 0, 3], [0, 0, 1]], False),
    ]:
        assert Fold(1, {"confusion": np.array(confusion)}, 1, 1.0).nothing_found() == nothing


def refused(capsys, *flags):
    assert main([str(flag) for flag in flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_resume_takes_no_other_settings(copy, capsys):
    for flags in (["--depth", "3"], ["--folds", "4"], ["--epochs", "9"], ["--preset", "paper"]):
        assert f"{flags[0]} does not go with --resume" in refused(capsys, "--run", copy, "--resume", *flags)
    assert "add --resume" in refused(capsys, "--run", copy)


def test_a_fold_of_other_settings_is_refused(copy, capsys):
    path = copy / "fold-1" / "config.json"
    content = json.loads(path.read_text())
    content["optimizer"]["learning_rate"] = 0.5
    path.write_text(json.dumps(content))
    error = refused(capsys, "--run", copy, "--resume")
    assert "fold-1" in error and "--learning-rate 0.5" in error and "0.01" in error


def test_other_data_is_refused(copy, phantoms, tmp_path, capsys):
    shutil.copytree(phantoms, tmp_path / "data")
    image = next((tmp_path / "data" / "images").iterdir())
    other = sorted((tmp_path / "data" / "images").iterdir())[-1]
    image.write_bytes(other.read_bytes() if image != other else sorted(image.parent.iterdir())[0].read_bytes())
    path = copy / "cross_validation.json"
    path.write_text(path.read_text().replace(str(phantoms), str(tmp_path / "data")))
    assert "has changed" in refused(capsys, "--run", copy, "--resume")


def test_counts_of_objects_without_classes_are_made_anew(finished, copy):
    """Those of version 0.1."""
    path = copy / "fold-0" / "held_out.json"
    for count in (np.zeros((1, 10, 3)), np.zeros((10, 3))):
        values = json.loads(path.read_text())
        values["counts"]["instances"] = count.tolist()
        fold = Fold.from_json(values, path)
        assert fold.has(["instances"]) == (count.ndim == 3)
        np.testing.assert_equal(fold.only([]).counts, read_fold(copy / "fold-0").counts)


def test_folds_without_a_score_are_left_out_of_its_mean(finished):
    """Classes 2 and 3 of objects; no fold has the last one."""
    counts = read_fold(finished[0] / "fold-0").counts
    objects = np.zeros((3, 10, 3)), np.zeros((3, 10, 3)), np.zeros((3, 10, 3))
    for of_fold, hits in zip(objects, (1, 2, 0), strict=True):
        of_fold[0] = [2, 1, 1]
        of_fold[1] = [hits, 2 * (hits > 0) - hits, 0]
    rows = score_rows([Fold(4, counts | {"instances": of_fold}, 1, 1.0) for of_fold in objects])
    for row, two, three in zip(rows, (0.5, 1, np.nan, 0.75, 0.125**0.5, 0.75), [np.nan] * 6, strict=True):
        np.testing.assert_allclose([row["ap_50_class_2"], row["ap_50_class_3"]], [two, three])
    assert [row["ap_50"] for row in rows[:3]] == [0.5, 0.75, 0.5]


@pytest.mark.parametrize("text", ["{", "[]", '{"images": 1}', '{"confusion": [1], "thresholds": [2]}'])
def test_damaged_counts_are_refused(text, copy, capsys):
    (copy / "fold-0" / "held_out.json").write_text(text)
    assert "held_out.json" in refused(capsys, "--run", copy, "--resume")


def test_a_cross_validation_is_in_use_once(copy, capsys):
    with run_folder.in_use(copy):
        assert "is in use" in refused(capsys, "--run", copy, "--resume")


def test_python_refuses_what_the_command_refuses(copy, phantoms, tmp_path):
    config, folder = unet_lowlevel.Config.of(**SETTINGS_OF_FLAGS, data=str(phantoms)), tmp_path / "new"
    before = on_disk(tmp_path)
    for given, options, words in [
        ((settings.apply(config, {"folds": 0}), folder), {}, ["--folds is 0", "at least 2"]),
        ((config, folder), {"scores": ["wrong"]}, ["--scores has 'wrong'", "instances, surfaces, boundaries"]),
        ((settings.apply(config, {"data": str(tmp_path / "nowhere")}), folder), {}, ["nowhere"]),
        ((config, folder), {"resume": True}, [f"--run {folder} is no cross-validation"]),
        ((config, copy), {}, [f"--run {copy} is not empty", "--resume"]),
        ((config, copy / "fold-0"), {}, ["is the run folder of one training"]),
        ((config, copy), {"resume": True, "scores": ["wrong"]}, ["--scores has 'wrong'"]),
        ((settings.apply(config, {"depth": 3}), copy), {"resume": True}, [f"{copy} was begun with --depth 2, not 3"]),
        ((settings.apply(config, {"folds": 4}), copy), {"resume": True}, ["--folds 3, not 4"]),
    ]:
        with pytest.raises(UserError) as caught:
            unet_lowlevel.cross_validate(*given, **options)
        sentence(caught, *words)
    assert on_disk(tmp_path) == before


def test_the_script_is_a_door():
    script = Path(__file__).parents[2] / "scripts" / "cross_validate_lowlevel.py"
    told = subprocess.run([sys.executable, script, "--help-all"], capture_output=True, text=True, check=True).stdout
    assert "--folds N" in told and "(default: 5)" in told and "--blocks" in told and "--resume" in told
    assert "--fold N" not in told and "--validation-list" not in told
