"""The model card of a run: its scores beside those of an evaluation, its other facts, and what must not harm it."""

import json
import shutil

import numpy as np
import pytest
from conftest import sentence
from untrained import untrained_run

from unet_lowlevel import run_folder
from unet_lowlevel.cli import evaluate as evaluation
from unet_lowlevel.cli import export, predict, train
from unet_lowlevel.data import samples
from unet_lowlevel.data.files import find_pairs
from unet_lowlevel.errors import UserError
from unet_lowlevel.inference import best_thresholds
from unet_lowlevel.inference import model_card as cards
from unet_lowlevel.inference.best_thresholds import store_thresholds
from unet_lowlevel.inference.evaluation import evaluate
from unet_lowlevel.inference.model_card import (
    BOOTSTRAP,
    checksum,
    markdown,
    model_card,
    note_unfinished,
    store_first_card,
    stored_card,
)
from unet_lowlevel.inference.predictor import Predictor, load
from unet_lowlevel.inference.threshold import write_threshold
from unet_lowlevel.scoring.intervals import WORST
from unet_lowlevel.summary import summarize
from unet_lowlevel.training.checkpoints import best_weights
from unet_lowlevel.training.history import HISTORY, kept_epoch, write_history

# One fast step after another, so that there is something to score.
FLAGS = ["--base-channels", "2", "--depth", "2", "--epochs", "3", "--batch-size", "2", "--learning-rate", "0.02"]
FLAGS += ["--plan", "off"]
OF_TRAINING = {"dice", "iou", "mean_iou", "precision", "recall", "pixel_error"}


def card_of(run):
    return json.loads((run / "model_card.json").read_text())


def with_history(run, *dice, **training):
    """Gives a run a history of validation Dice, and changes settings of its training."""
    write_history(run / "history.csv", [dict.fromkeys(HISTORY, d) | {"epoch": 1, "step": 1} for d in dice])
    content = json.loads((run / "config.json").read_text())
    content["training"] |= training
    (run / "config.json").write_text(json.dumps(content))


def known(run):
    return {pair.stem: pair.group for pair in find_pairs(run_folder.read(run)[0].data)}


def assert_scores_of(run, expected, names=frozenset(OF_TRAINING)):
    """That the card has what an evaluation found, up to rounding; of a training fewer scores."""
    found = card_of(run)["scores"]
    assert set(found["mean_over_images"]) == names
    for name in names:
        for value, other in (
            (found[name], expected[name]),
            (found["mean_over_images"][name], expected["mean_over_images"][name]),
            (found["intervals"]["mean_over_images"][name], expected["intervals"]["mean_over_images"][name]),
            (found["intervals"]["all_images"][name], expected["intervals"]["all_images"][name]),
        ):
            assert value == pytest.approx(other, abs=1e-9)
    assert found["per_class"] == expected["per_class"] and found["worst"] == pytest.approx(expected["worst"])
    assert found["images"] == expected["images"]


@pytest.fixture(scope="module")
def scattered(phantoms, tmp_path_factory):
    """The phantoms with names that put four of them, of several patients, on the side that is held out."""
    folder = tmp_path_factory.mktemp("scattered")
    for part in ("images", "masks"):
        (folder / part).mkdir()
        for path in (phantoms / part).iterdir():
            shutil.copy(path, folder / part)
    stems = sorted(path.stem for path in (folder / "images").iterdir())[::3]
    (folder / "held_out.txt").write_text("\n".join(stems) + "\n")
    return folder


@pytest.mark.parametrize(
    ("implementation", "threshold"),
    [
        ("lowlevel", "0.2"),
        ("highlevel", "0.2"),
        pytest.param("keras", "0.2", marks=pytest.mark.slow),
        ("lowlevel", "0"),
    ],
)
def test_a_training_ends_with_the_scores_of_an_evaluation(implementation, threshold, scattered, tmp_path, capsys):
    """From the counts of its validation, or of the choice of the threshold."""
    run = tmp_path / "run"
    flags = ["--data", str(scattered), "--validation-list", str(scattered / "held_out.txt"), *FLAGS]
    flags += ["--threshold", threshold, *["--epochs", "16", "--no-batch-normalization"] * (threshold == "0")]
    assert train.main(["--run", str(run), *flags], implementation) == 0
    assert "model_card.md" in capsys.readouterr().out
    assert (run / "threshold.json").exists() == (threshold == "0")
    copy = shutil.copytree(run, tmp_path / "copy")
    assert_scores_of(run, evaluate(copy, tmp_path / "scores", bootstrap=BOOTSTRAP))
    card = card_of(run)
    assert card["threshold"] == load(run).config.training.decision_threshold
    assert card["weights_sha256"] == checksum(best_weights(run)) and card["license"] == "not stated"
    assert card["data"]["images"] == 12 and card["images"] == {"training": 8, "validation": 4}
    assert card["settings"]["data"]["data"] == str(scattered) and len(card["data_fingerprint"]) == 64
    text = (run / "model_card.md").read_text()
    low, high = card["data"]["gray"]
    for words in (
        "It has seen uint8 images of 1 channel, sides of 32 (high) and 32 (wide) pixels, values of "
        f"{low:g} to {high:g}, and objects of ",
        "8 images; 4 were held out",
        f"`{card['weights_sha256']}`",
        f"`{card['data_fingerprint']}`",
        "Nothing was planned",
        "| 1 | ",
        f"Worst images, by Dice: {next(iter(card['scores']['worst']))} (",
    ):
        assert words in text


@pytest.mark.parametrize("views", ["--no-average-flips", "--average-flips"])
def test_several_classes_have_a_row_each(views, scattered, tmp_path):
    """Also where the validation of the epochs says nothing of the views that the run predicts by."""
    flags = ["--data", str(scattered), "--validation-list", str(scattered / "held_out.txt"), *FLAGS, views]
    run = tmp_path / "run"
    assert train.main(["--run", str(run), *flags, "--classes", "2", "--keep", "last", "--resolution", "0.7"]) == 0
    copy = shutil.copytree(run, tmp_path / "copy")
    expected = evaluate(copy, tmp_path / "scores", bootstrap=BOOTSTRAP)
    assert_scores_of(run, expected, OF_TRAINING if views == "--no-average-flips" else set(expected["mean_over_images"]))
    assert (expected["dice"] == kept_epoch(run)["validation_dice"]) == (views == "--no-average-flips")


@pytest.fixture
def run(scattered, tmp_path):
    """A run with held-out images of a network that nobody has trained."""
    stems = tuple((scattered / "held_out.txt").read_text().split())
    return untrained_run(tmp_path / "run", 5, stems, data=str(scattered))


def test_no_image_is_read_or_predicted_for_it(run, monkeypatch):
    counts, groups = store_thresholds(run), known(run)
    for place, name in ((Predictor, "probabilities"), (samples, "read_image"), (best_thresholds, "find_pairs")):
        monkeypatch.setattr(place, name, None)
    store_first_card(run, counts, groups)
    monkeypatch.undo()
    expected = evaluate(shutil.copytree(run, run.with_name("copy")), run.with_name("scores"), bootstrap=BOOTSTRAP)
    assert_scores_of(run, expected)
    assert [*expected["worst"].values()] == sorted(expected["worst"].values()) and len(expected["worst"]) <= WORST


def test_after_a_resumption_a_card_of_the_same_weights_stays(tiny_run, tmp_path):
    """Of others it has the scores of history.csv, which are of all pixels."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = (run / "model_card.json").read_bytes()
    store_first_card(run, {}, {})
    assert (run / "model_card.json").read_bytes() == before
    for damage in ("{", "[]", json.dumps(json.loads(before) | {"weights_sha256": ""})):
        (run / "model_card.json").write_text(damage)
        store_first_card(run, {}, {})
        card = card_of(run)
        assert card["scores"]["dice"] == kept_epoch(run)["validation_dice"] and card["scores"]["per_class"] == []
        assert "of all pixels only" in (run / "model_card.md").read_text()
        assert card == json.loads(json.dumps(stored_card(run, best_weights(run))))


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "plan.json").write_text('{"fingerprint": {"height": 3}}'),
        lambda run: (run / "plan.json").write_text("["),
        lambda run: (run / "model_card.md").mkdir(),
        lambda run: (run / "best" / "checkpoint").unlink(),
    ],
)
def test_what_goes_wrong_is_a_note(damage, run, capsys):
    counts = store_thresholds(run)
    capsys.readouterr()
    damage(run)
    store_first_card(run, counts, known(run))
    error = capsys.readouterr().err
    assert error.startswith("note: no model card was written: ") and error.count("\n") == 1


def test_a_damaged_plan_is_named(run):
    for content in ('{"fingerprint": {"height": 3}}', '{"plan": [1]}', "[]", '{"fingerprint": 3}'):
        (run / "plan.json").write_text(content)
        with pytest.raises(UserError) as caught:
            model_card(run, best_weights(run), {})
        sentence(caught, "plan.json does not hold the plan of a training")


def test_without_a_look_at_the_data_the_card_says_so(run):
    card = model_card(run, best_weights(run), {})
    assert card["data"] == {} and card["plan"] == []
    text = markdown(card)
    assert "was not measured (--no-check)" in text and "nothing was scored" in text


@pytest.mark.parametrize(
    ("dice", "epochs", "patience", "stopped"),
    [
        ([0.1, 0.2], 3, 0, True),
        ([0.1, 0.2, 0.3], 3, 0, False),
        ([0.3, 0.2, 0.1], 9, 2, False),
        ([0.1, 0.3, 0.2], 9, 2, True),
        ([], 3, 2, True),
    ],
)
def test_a_training_that_was_stopped_is_told_of(dice, epochs, patience, stopped, run, capsys):
    """Not one that --patience has ended; of a lost history.csv nothing is told."""
    note_unfinished([run])
    with_history(run, *dice, epochs=epochs, patience=patience)
    note_unfinished([run])
    told = f"was stopped after {len(dice)} of {epochs} epochs"
    line = f"note: the training of {run} {told}: train --run {run} --resume goes on\n"
    assert capsys.readouterr().err == (line if stopped else "")
    assert (f"- The training {told}." in markdown(model_card(run, best_weights(run), {}))) == stopped


@pytest.mark.parametrize("command", [predict, evaluation, export])
def test_commands_tell_that_a_training_was_stopped(command, run, scattered, tmp_path, capsys):
    with_history(run, 0.1, epochs=3)
    flags = {predict: ["--images", str(scattered / "images")], export: ["--format", "saved_model"]}
    assert command.main(["--run", str(run), "--output", str(tmp_path / "out"), *flags.get(command, [])]) == 0
    assert capsys.readouterr().err.count("was stopped after 1 of 3 epochs") == 1


def test_a_plan_is_told_with_its_reasons(run):
    """As flags that one can type; a reason stands there once."""
    settings = {"crop_size": 64, "flips": True, "flip_axes": "left_right", "quarter_turns": False}
    reasons = {"crop_size": "half of the images are no larger"}
    plan = [
        {"setting": name, "value": value, "reason": reasons.get(name, "it looks so")}
        for name, value in settings.items()
    ]
    (run / "plan.json").write_text(json.dumps({"plan": plan}))
    text = markdown(model_card(run, best_weights(run), {}))
    assert "- `--crop-size 64`: half of the images are no larger\n" in text
    assert "- `--flips`, `--flip-axes left_right`, `--no-quarter-turns`: it looks so\n" in text


def test_the_card_counts_parameters_as_the_drawing_does(run):
    weights = best_weights(run)
    parameters = sum(layer.parameters for layer in summarize(run_folder.read(run)[0].model, 32, 32))
    everything = sum(values.size for values in weights.values())
    assert parameters < everything
    told = f"{parameters:,} parameters, with the moving averages {everything:,} numbers"
    card = model_card(run, weights, {})
    assert card["network"].endswith(told)
    assert card["output"] == "the probability of the foreground, and a mask, 1 where it is 0.5 or more"


def test_an_evaluation_renews_it(run, scattered, tmp_path, monkeypatch, capsys):
    """Of the held-out images as in the training, and of nothing else."""
    evaluate(run, tmp_path / "none")
    assert not (run / "model_card.md").exists()
    store_first_card(run, store_thresholds(run), known(run))
    before = (run / "model_card.json").read_bytes()
    others = [{"split": "all"}, {"average": "flips"}, {"changes": {"data": str(scattered)}}]
    for number, other in enumerate([*others, {"region": scattered / "masks"}]):
        evaluate(run, tmp_path / f"other-{number}", **other)
        assert (run / "model_card.json").read_bytes() == before
    evaluate([run, run], tmp_path / "several")
    assert (run / "model_card.json").read_bytes() == before
    capsys.readouterr()
    found = evaluate(run, tmp_path / "scores", scores=["surfaces"])
    assert "intervals" not in found and "model_card.md" in capsys.readouterr().out
    scores = card_of(run)["scores"]
    assert {name: scores[name] for name in found} == json.loads(json.dumps(found)) and "roc_auc" in found
    assert scores["intervals"].keys() == {"all_images", "mean_over_images"}
    assert "| roc_auc | " in (run / "model_card.md").read_text()
    expected = evaluate(run, tmp_path / "again", bootstrap=7)
    assert card_of(run)["scores"] == json.loads(json.dumps(expected))
    monkeypatch.setattr(cards, "write_card", None)
    assert evaluate(run, tmp_path / "without") == evaluate(run, tmp_path / "without, too")
    assert "note: no model card was written: " in capsys.readouterr().err


def test_a_card_of_other_weights_or_another_threshold_is_none(run):
    store_first_card(run, store_thresholds(run), known(run))
    weights = best_weights(run)
    assert stored_card(run, weights) == card_of(run)
    assert stored_card(run, {name: values + 1 for name, values in weights.items()}) is None
    write_threshold(run, 0.123)
    assert stored_card(run, weights) is None


def test_images_of_one_group_have_no_intervals(phantoms, tmp_path):
    stems = tuple(sorted(path.stem for path in (phantoms / "images").iterdir())[:3])
    run = untrained_run(tmp_path / "run", 5, stems, data=str(phantoms), group_regex=r"patient-\d+")
    store_first_card(run, store_thresholds(run), known(run))
    assert "intervals" not in card_of(run)["scores"]
    assert "no intervals, because all images are of one group" in (run / "model_card.md").read_text()


def test_the_weights_are_those_that_predict(tiny_run):
    model = load(tiny_run, plain=True).networks[0].model
    found = best_weights(tiny_run)
    assert found.keys() == model.named_variables().keys()
    for name, variable in model.named_variables().items():
        np.testing.assert_array_equal(found[name], variable)
