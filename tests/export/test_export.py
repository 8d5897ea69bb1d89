"""The command, its check of what it has written, and the model card."""

import gc
import json
import sys
import warnings
import zipfile

import numpy as np
import pytest
from untrained import untrained_run

from unet_lowlevel.cli import export
from unet_lowlevel.errors import UserError
from unet_lowlevel.export import model_card as exported
from unet_lowlevel.export import parity
from unet_lowlevel.inference.evaluation import evaluate
from unet_lowlevel.inference.model_card import BOOTSTRAP, checksum
from unet_lowlevel.inference.predictor import load
from unet_lowlevel.scoring.intervals import WORST
from unet_lowlevel.training.checkpoints import best_weights

FILES = {
    "saved_model": "out",
    "onnx": "out.onnx",
    "litert": "out.tflite",
    "bioimageio": "out.zip",
    "keras": "out.keras",
}


@pytest.fixture
def leaking():
    """For bioimageio.spec, which leaves the files open that it packs, until they are collected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_every_form_has_a_file_and_a_way_to_open_it():
    assert [*export.FORMS] == [*FILES] == [*parity.OPENED]
    assert {form: name.removeprefix("out") for form, name in FILES.items() if name != "out"} == export.SUFFIXES


@pytest.mark.parametrize("form", FILES)
def test_the_command_writes_a_form_and_its_card(form, place, capsys, leaking):
    flags = ["--run", "run", "--format", form, "--output", f"new/{FILES[form]}", "--license", "CC-BY-4.0"]
    flags += ["--authors", "Ada Lovelace", "Alan Turing"] if form == "bioimageio" else []
    assert export.main(flags) == 0
    told = capsys.readouterr().out
    assert f"wrote new/{FILES[form]}" in told
    assert "probabilities differ by" in told or (form == "keras" and "logits of images normalized" in told)
    card = place / "new" / ("out/model_card.md" if form == "saved_model" else f"{FILES[form]}_model_card.md")
    text, facts = card.read_text(), json.loads(card.with_suffix(".json").read_text())
    assert "CC-BY-4.0" in text and facts["license"] == "CC-BY-4.0" and facts["weights_sha256"] in text
    assert ("**Output**: logits of images normalized" in text) == (form == "keras")
    assert {path.name for path in (place / "new").iterdir()} >= {FILES[form]}
    assert not [path for path in (place / "new").rglob(".*")]


def test_a_keras_file_with_all_that_happens(place, capsys):
    flags = ["--run", "run", "--format", "keras", "--output", "m.keras", "--with-preprocessing"]
    assert export.main(flags) == 0
    assert "probabilities differ by" in capsys.readouterr().out
    image = np.zeros((1, 9, 20, 1), np.float32)
    assert parity.OPENED["keras"](place / "m.keras")(image)["mask"].shape == (1, 9, 20)


def test_the_package_is_what_bioimageio_wants(place, leaking):
    from bioimageio.core import test_model

    flags = ["--output", "m.zip", "--license", "MIT", "--authors", "Ada Lovelace"]
    assert export.main(["--run", "run", "--format", "bioimageio", *flags]) == 0
    found = test_model(place / "m.zip")
    assert found.status == "passed", found.display()
    with zipfile.ZipFile(place / "m.zip") as package:
        described = package.read("rdf.yaml").decode()
        assert "3 were held out" in package.read("README.md").decode()
    assert "Ada Lovelace" in described and "license: MIT" in described
    assert "the probability of the foreground, and a mask" in " ".join(described.split())


@pytest.mark.parametrize("average", ["none", "flips"])
def test_the_card_has_the_scores_that_evaluate_gives(average, place):
    """Where that of the run has none of them: it is of an earlier version, or of other views."""
    for path in (place / "run").glob("model_card.*") if average == "none" else ():
        path.unlink()
    flags = ["--average-flips"] if average == "flips" else []
    assert export.main(["--run", "run", "--format", "saved_model", "--output", "m", *flags]) == 0
    facts = json.loads((place / "m" / "model_card.json").read_text())
    expected = evaluate("run", "scores", bootstrap=BOOTSTRAP, average=average)
    worst = facts["scores"]["worst"]
    assert facts["scores"] == json.loads(json.dumps(expected))
    rows = [line.split(",") for line in (place / "scores" / "per_image.csv").read_text().splitlines()]
    dice = {row[0]: float(row[rows[0].index("dice")]) for row in rows[1:]}
    assert [*worst.items()] == sorted(dice.items(), key=lambda item: item[1])[:WORST]
    assert facts["images"] == {"training": 9, "validation": 3}
    text = (place / "m" / "model_card.md").read_text()
    assert f"| dice | {expected['dice']:.4f} | {expected['mean_over_images']['dice']:.4f} |" in text
    assert next(iter(worst)) in text and "9 images; 3 were held out" in text


def test_the_card_of_the_run_is_taken_over(place, monkeypatch):
    """With its scores, and nothing is scored anew, nor in the run folder changed; form and licence are added."""
    monkeypatch.setattr(exported, "scores_of_run", None)
    before = (place / "run" / "model_card.json").read_bytes()
    flags = ["--run", "run", "--format", "saved_model", "--output", "m", "--license", "MIT"]
    assert export.main(flags) == 0
    facts, of_run = json.loads((place / "m" / "model_card.json").read_text()), json.loads(before)
    assert facts.pop("agreement").startswith("probabilities differ by") and facts.pop("form").startswith("A folder for")
    assert facts.pop("license") == "MIT" and of_run.pop("license") == "not stated"
    assert facts == of_run | {"name": "run"} and facts["scores"]["worst"]
    assert (place / "run" / "model_card.json").read_bytes() == before


def test_scores_outlive_the_images(place):
    """Even those of all pixels only, unless the weights are others by now."""
    card = place / "run" / "model_card.json"
    facts = json.loads(card.read_text())
    facts["scores"] |= {"worst": {}, "per_class": [], "dice": 0.125}
    card.write_text(json.dumps(facts))
    config = json.loads((place / "run" / "config.json").read_text())
    config["data"]["data"] = "gone"
    (place / "run" / "config.json").write_text(json.dumps(config))
    for output, words in (("one", "| dice | 0.1250 |"), ("two", "nothing was scored")):
        assert export.main(["--run", "run", "--format", "saved_model", "--output", output]) == 0
        assert words in (place / output / "model_card.md").read_text()
        card.write_text(json.dumps(facts | {"weights_sha256": "0"}))


def test_without_images_it_is_tried_on_noise_and_not_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    untrained_run(tmp_path / "run")
    assert export.main(["--run", "run", "--format", "onnx", "--output", "m.onnx"]) == 0
    assert "tried on noise" in capsys.readouterr().err
    assert "nothing was scored" in (tmp_path / "m.onnx_model_card.md").read_text()
    flags = ["--format", "litert", "--quantize", "int8", "--output", "m.tflite"]
    assert export.main(["--run", "run", *flags]) == 2
    assert "--quantize int8 needs images of the training" in capsys.readouterr().err


def test_a_form_that_differs_is_not_kept(place, monkeypatch, capsys):
    right = parity.OPENED["onnx"]

    def wrong(path):
        run = right(path)
        return lambda images: {name: value + (name == "probabilities") * 1e-3 for name, value in run(images).items()}

    monkeypatch.setitem(parity.OPENED, "onnx", wrong)
    assert export.main(["--run", "run", "--format", "onnx", "--output", "m.onnx"]) == 2
    assert "does not agree with the run" in capsys.readouterr().err
    assert not [path.name for path in place.iterdir() if path.name not in ("data", "run")]


def test_the_card_of_fewer_bits_tells_what_they_cost(place, capsys):
    flags = ["--run", "run", "--format", "litert", "--quantize", "float16", "--output", "m.tflite"]
    assert export.main(flags) == 0
    [told] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrote m.tflite: ")]
    agreement = told.removeprefix("wrote m.tflite: ")
    assert agreement.startswith("probabilities differ by") and "; the mask differs in" in agreement
    text = (place / "m.tflite_model_card.md").read_text()
    assert (
        f"- Quantized (float16: weights stored in half the space). Beside the run in float32, {agreement} (of" in text
    )
    assert "The scores are those of float32." in text


def test_masks_of_few_bits_must_agree():
    image, run = np.zeros((4, 25, 1), np.uint8), load
    expected = type("P", (), {"probabilities": np.zeros((4, 25, 1)), "mask": np.zeros((4, 25), np.uint8)})
    found = {"probabilities": np.full((1, 4, 25, 1), 0.4), "mask": np.zeros((1, 4, 25), np.uint8)}
    found["mask"][0, 0, :2] = 1
    run = lambda images: found  # noqa: E731
    assert "; the mask differs in 2 % of its pixels" in parity.check_parity(run, image, expected, "int8")
    found["mask"][0, 0, :3] = 1
    for quantize in ("int8", "float16", "none"):
        with pytest.raises(UserError, match="does not agree"):
            parity.check_parity(run, image, expected, quantize)


@pytest.mark.parametrize(
    ("form", "package"), [("onnx", "onnxruntime"), ("litert", "ai_edge_litert"), ("bioimageio", "bioimageio")]
)
def test_a_missing_package_is_named(form, package, place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    flags = ["--authors", "Ada Lovelace"] if form == "bioimageio" else []
    assert export.main(["--run", "run", "--format", form, "--output", FILES[form], *flags]) == 2
    error = capsys.readouterr().err
    assert f"--format {form} needs the package {package}" in error and "[export]" in error


def test_the_checksum_is_of_names_and_values(tmp_path):
    weights = [best_weights(untrained_run(tmp_path / f"{i}", seed=seed)) for i, seed in enumerate((0, 0, 1))]
    one, same, other = map(checksum, weights)
    assert one == same != other
    assert checksum({f"{name}_": values for name, values in weights[0].items()}) != one
