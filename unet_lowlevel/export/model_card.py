"""The model card: what a network was shown, how well it does, and what it was never shown.

Reference: Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

import csv
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_lowlevel import __version__, run_folder, settings
from unet_lowlevel.config import Config
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.inference.evaluation import evaluate, score_text
from unet_lowlevel.run_folder import write_text
from unet_lowlevel.settings import load_json

# Data sets drawn for the intervals, and how many of the worst images are named.
BOOTSTRAP, WORST = 1000, 5


def model_card(run: Path, model: UNet, *, form: str, average: str, scored: bool, license: str) -> dict[str, Any]:
    """What is known of a run.

    Args:
        run: its folder.
        model: the network with its best weights, not folded.
        form: what is exported, a sentence.
        average: over which views it predicts, see `predictor.load`.
        scored: whether the held-out images are there to be scored.
        license: of the weights; "": not stated.
    """
    config, about, split = run_folder.read(run)
    plan = load_json(run / "plan.json") if (run / "plan.json").is_file() else {}
    return {
        "name": run.resolve().name,
        "form": form,
        "network": f"U-Net, depth {config.model.depth}, {config.model.base_channels} channels at level 1, "
        f"{sum(int(v.shape.num_elements()) for v in model.named_variables().values()):,} numbers",
        "input": f"images of {config.model.in_channels} channels as stored, of any size",
        "output": f"probabilities of {max(config.model.classes, 2)} classes (background included), and the class of "
        "each pixel",
        "images": {part: len(stems) for part, stems in split.items()},
        "data_fingerprint": about.get("data_fingerprint", ""),
        "data": plan.get("fingerprint", {}),
        "settings": settings.to_json(config),
        "versions": about.get("versions", {}) | {"unet-lowlevel of this card": __version__},
        "scores": scores_of(run, average) if scored else {},
        "limits": limits(config, plan.get("fingerprint", {}), split),
        "license": license or "not stated",
        "cite": f"unet_lowlevel {__version__}; Ronneberger, Fischer and Brox 2015, U-Net; and the authors of the data.",
        "weights_sha256": checksum(model),
    }


def checksum(model: UNet) -> str:
    """SHA-256 of all weights and statistics in the order of their names, as little-endian float32."""
    digest = hashlib.sha256()
    for name, variable in sorted(model.named_variables().items()):
        digest.update(name.encode() + variable.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def scores_of(run: Path, average: str) -> dict[str, Any]:
    """What `evaluate` says of the held-out images, with 95 % intervals, and the `WORST` of them."""
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate(run, Path(folder) / "scores", bootstrap=BOOTSTRAP, average=average)
        with (Path(folder) / "scores" / "per_image.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    rows = sorted((row for row in rows if row["dice"]), key=lambda row: float(row["dice"]))
    return found | {"worst": {row["stem"]: float(row["dice"]) for row in rows[:WORST]}}


def limits(config: Config, data: Mapping[str, Any], split: Mapping[str, list]) -> list[str]:
    """What the network was never shown, in sentences."""
    found = [
        f"Trained on {len(split['training'])} images. Others are like them or not: look at masks of your own before "
        "you trust any.",
        "The held-out images have chosen the epoch and the threshold, so that their scores are a little too good.",
        "No medical device: not for diagnosis.",
    ]
    if data:
        height, width, gray = data["height"], data["width"], data["gray"]
        found.insert(
            1,
            f"It has seen sides of {height[0]:g} to {height[-1]:g} (high) and {width[0]:g} to {width[-1]:g} (wide) "
            f"pixels, values of {gray[0]:g} to {gray[1]:g}, and objects of {data_areas(data)} pixels.",
        )
    if config.data.group_regex == "":
        found.append("Images were held out one by one: whether patients were on both sides is not known.")
    return found


def data_areas(data: Mapping[str, Any]) -> str:
    """From the small to the large objects of all foreground classes."""
    areas = [kind["area"] for kind in data["classes"][1:] if kind["objects"]]
    return f"{min(area[0] for area in areas):g} to {max(area[-1] for area in areas):g}" if areas else "no"


def write_card(card: Mapping[str, Any], path: Path) -> None:
    """Writes the card as Markdown, and all of it as JSON beside it."""
    write_text(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    write_text(path, markdown(card))


def markdown(card: Mapping[str, Any]) -> str:
    """The card as people read it."""
    data, found = card["images"], card["scores"]
    lines = [f"# {card['name']}", "", f"{card['form']} {card['network']}.", ""]
    lines += [f"- **Input**: {card['input']}.", f"- **Output**: {card['output']}."]
    lines += [f"- **Trained on** {data['training']} images; {data['validation']} were held out."]
    lines += [f"- **Licence of the weights**: {card['license']}.", f"- **To cite**: {card['cite']}", ""]
    lines += ["## Scores of the held-out images", ""]
    if found:
        intervals = found.get("intervals", {}).get("mean_over_images", {})
        lines += [
            "| score | all pixels together | mean of the images | 95 % interval of the mean |",
            "| --- | --- | --- | --- |",
        ]
        for name, mean in found["mean_over_images"].items():
            interval = " to ".join(map(score_text, intervals[name])) if name in intervals else "-"
            lines.append(f"| {name} | {score_text(found[name])} | {score_text(mean)} | {interval} |")
        lines += ["", "| class | Dice | IoU | precision | recall |", "| --- | --- | --- | --- | --- |"]
        for row in found["per_class"]:
            cells = [score_text(row[name]) for name in ("dice", "iou", "precision", "recall")]
            lines.append(f"| {' | '.join([str(row['class']), *cells])} |")
        worst = ", ".join(f"{stem} ({score_text(dice)})" for stem, dice in found["worst"].items())
        lines += ["", f"Worst images, by Dice: {worst}.", ""]
    else:
        lines += ["The images are gone, so that nothing was scored.", ""]
    lines += ["## Limits", "", *(f"- {sentence}" for sentence in card["limits"]), ""]
    lines += [f"SHA-256 of the weights: `{card['weights_sha256']}`. All settings are in the JSON file beside this one."]
    return "\n".join(lines) + "\n"
