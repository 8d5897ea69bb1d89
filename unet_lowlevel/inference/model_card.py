"""The model card: what a network was shown, how well it does, and what it was never shown.

Reference: Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_lowlevel import __version__, run_folder, settings
from unet_lowlevel.config import Config
from unet_lowlevel.data.splits import matched_group
from unet_lowlevel.errors import UserError, reason
from unet_lowlevel.inference.threshold import read_threshold
from unet_lowlevel.markdown import markdown_table
from unet_lowlevel.run_folder import write_json, write_text
from unet_lowlevel.scoring import score_text
from unet_lowlevel.scoring.intervals import summarized
from unet_lowlevel.settings import load_json
from unet_lowlevel.terminal import note, say, show_path
from unet_lowlevel.training.checkpoints import best_weights
from unet_lowlevel.training.history import criterion, kept_epoch, read_history

# In the run folder; beside it all of it as .json.
FILE = "model_card.md"
# Data sets drawn for the intervals.
BOOTSTRAP = 1000


def store_first_card(run: Path, counts: Mapping[str, dict[str, np.ndarray]], known: Mapping[str, str]) -> None:
    """Writes the model card at the end of a training, without reading or predicting an image.

    Args:
        run: the run folder.
        counts: {stem: `counts.probability_counts`} of the held-out images by the kept network; empty: it is of an epoch
            before the training was resumed. Then a card of these weights stays; else it has the scores of history.csv.
        known: {stem: group} of all images; see `files.Pair.group`.
    """
    with an_extra():
        if counts:
            stems = sorted(counts)
            stacked = {name: np.stack([counts[stem][name] for stem in stems]) for name in counts[stems[0]]}
            regex = run_folder.read(run)[0].data.group_regex
            groups = {stem: matched_group(stem, regex, known[stem]) for stem in stems}
            store_card(run, summarized(stems, stacked, groups, BOOTSTRAP))
        elif not stored_card(run, best_weights(run)):
            row = kept_epoch(run)
            scores = {name: row[f"validation_{name}"] for name in ("dice", "iou", "mean_iou")}
            store_card(run, scores | {"mean_over_images": dict.fromkeys(scores), "per_class": [], "worst": {}})


def store_card(run: Path, scores: Mapping[str, Any]) -> None:
    """Writes the model card of a run with these scores."""
    write_card(model_card(run, best_weights(run), scores), run / FILE)
    say(f"wrote {show_path(run / FILE)}")


@contextlib.contextmanager
def an_extra() -> Iterator[None]:
    """Makes a note of all that goes wrong with the model card: training and scores are what was asked for."""
    try:
        yield
    except Exception as error:
        note(f"no model card was written: {reason(error)}")


def model_card(run: Path, weights: Mapping[str, np.ndarray], scores: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run, as JSON can hold it.

    Args:
        run: its folder.
        weights: the best ones, and statistics, by name; see `checkpoints.best_weights`.
        scores: of the held-out images, as `intervals.summarized` gives them; empty: nothing was scored.

    Raises:
        UserError: see `planned`.
    """
    config, about, split = run_folder.read(run)
    one = config.model.classes == 1
    return {
        "name": run.resolve().name,
        "network": f"U-Net, depth {config.model.depth}, {config.model.base_channels} channels at level 1, "
        + size_text(weights),
        "input": f"images of {channels(config.model.in_channels)} as stored, of any size",
        "output": f"the probability of the foreground, and a mask, 1 where it is {threshold_of(run):g} or more"
        if one
        else f"probabilities of {config.model.classes} classes (background included), and the class of each pixel",
        "images": {part: len(stems) for part, stems in split.items()},
        "data_fingerprint": about.get("data_fingerprint", ""),
        **planned(run),
        "settings": settings.to_json(config),
        "versions": about.get("versions", {}) | {"unet-lowlevel of this card": __version__},
        "threshold": threshold_of(run),
        "scores": scores,
        "license": "not stated",
        "cite": f"unet_lowlevel {__version__}; Ronneberger, Fischer and Brox 2015, U-Net; and the authors of the data.",
        "weights_sha256": checksum(weights),
    }


def size_text(weights: Mapping[str, np.ndarray]) -> str:
    """'1,942,289 parameters, with the moving averages 1,945,201 numbers'."""
    everything = sum(values.size for values in weights.values())
    averages = sum(values.size for name, values in weights.items() if "moving_" in name)
    beside = f", with the moving averages {everything:,} numbers" if averages else ""
    return f"{everything - averages:,} parameters{beside}"


def planned(run: Path) -> dict[str, Any]:
    """What plan.json tells for the card: data, plan and limits; of a run without it little.

    Raises:
        UserError: when the folder is no run, or plan.json is damaged.
    """
    config, _, split = run_folder.read(run)
    content = load_json(run / "plan.json") if (run / "plan.json").is_file() else {}
    try:
        data, plan = content.get("fingerprint", {}), content.get("plan", [])
        data_lines(data), plan_lines(plan)  # or they would fail when the card is written
        stopped = unfinished(run)
        early = [f"The training {stopped}."] if stopped else []
        return {"data": data, "plan": plan, "limits": [*early, *limits(config, data, split)]}
    except (AttributeError, LookupError, TypeError, ValueError):
        raise UserError(f"{run / 'plan.json'} does not hold the plan of a training: restore or remove it.") from None


def unfinished(run: Path) -> str:
    """'was stopped after 3 of 25 epochs' of a run that ended so, and not by --patience; else nothing."""
    training = run_folder.read(run)[0].training
    try:
        scores = criterion(read_history(run / "history.csv"))
    except UserError:  # lost, which only --resume minds
        return ""
    without_gain = len(scores) - scores.index(max(scores)) - 1 if scores else 0
    if len(scores) >= training.epochs or 0 < training.patience <= without_gain:
        return ""
    return f"was stopped after {len(scores)} of {training.epochs} epochs"


def note_unfinished(runs: Iterable[str | Path]) -> None:
    """Makes a note of each run whose training was stopped."""
    for run in map(Path, runs):
        if stopped := unfinished(run):
            note(f"the training of {show_path(run)} {stopped}: train --run {show_path(run)} --resume goes on")


def stored_card(run: Path, weights: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """The card in a run folder, if it is whole, and of these weights and the threshold that is stored there."""
    try:
        card = load_json((run / FILE).with_suffix(".json"))
        markdown(card)
        same = (card["weights_sha256"], card["threshold"]) == (checksum(weights), threshold_of(run))
    except Exception:  # there is none, or it is damaged, which raises anything
        return None
    return card if same else None


def threshold_of(run: Path) -> float:
    """The probability from which a pixel is foreground, of networks with one class."""
    return run_folder.read(run)[0].training.threshold or read_threshold(run) or 0.5


def checksum(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of all weights and statistics in the order of their names, as little-endian float32."""
    digest = hashlib.sha256()
    for name, values in sorted(weights.items()):
        digest.update(name.encode() + values.astype("<f4").tobytes())
    return digest.hexdigest()


def limits(config: Config, data: Mapping[str, Any], split: Mapping[str, list]) -> list[str]:
    """What the network was never shown, in sentences."""
    seen = "What sizes and values its images had was not measured (--no-check)."
    if data:
        height, width, gray = data["height"], data["width"], data["gray"]
        seen = (
            f"It has seen {data['dtype']} images of {channels(data['channels'])}, sides of {span(height)} (high) and "
            f"{span(width)} (wide) pixels, values of {span(gray)}, and objects of {data_areas(data)} pixels."
        )
    found = [
        f"Trained on {len(split['training'])} images. Others are like them or not: look at masks of your own before "
        "you trust any.",
        seen,
        "The held-out images have chosen the epoch and the threshold, so that their scores are a little too good.",
        "No medical device: not for diagnosis.",
    ]
    if config.data.group_regex == "":
        found.append("Images were held out one by one: whether patients were on both sides is not known.")
    return found


def channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def span(numbers: Sequence[float]) -> str:
    """'128', or '96 to 128': from the first of the numbers to the last."""
    return " to ".join(dict.fromkeys(f"{number:g}" for number in (numbers[0], numbers[-1])))


def data_areas(data: Mapping[str, Any]) -> str:
    """From the small to the large objects of all foreground classes."""
    areas = [kind["area"] for kind in data["classes"][1:] if kind["objects"]]
    return f"{min(area[0] for area in areas):g} to {max(area[-1] for area in areas):g}" if areas else "no"


def write_card(card: Mapping[str, Any], path: Path) -> None:
    """Writes the card as Markdown, and all of it as JSON beside it."""
    write_json(path.with_suffix(".json"), card)
    write_text(path, markdown(card))


def markdown(card: Mapping[str, Any]) -> str:
    """The card as people read it."""
    images, form = card["images"], f"{card['form']} " if "form" in card else ""
    return "\n".join(
        [
            *(f"# {card['name']}", "", f"{form}{card['network']}.", ""),
            *(f"- **Input**: {card['input']}.", f"- **Output**: {card['output']}."),
            f"- **Trained on** {images['training']} images; {images['validation']} were held out.",
            *(f"- **Licence of the weights**: {card['license']}.", f"- **To cite**: {card['cite']}", ""),
            *("## Data", "", *data_lines(card["data"])),
            *(f"Fingerprint of the files: `{card['data_fingerprint'] or 'none'}`.", ""),
            *("## Plan", "", *plan_lines(card["plan"]), ""),
            *("## Scores of the held-out images", "", *score_lines(card["scores"]), ""),
            *("## Limits", "", *(f"- {sentence}" for sentence in card["limits"]), ""),
            f"SHA-256 of the weights: `{card['weights_sha256']}`. All settings are in the JSON file beside this one.\n",
        ]
    )


def data_lines(data: Mapping[str, Any]) -> list[str]:
    """What the plan knows of the data; nothing without one."""
    if not data:
        return []
    rows = [
        [k, f"{100 * kind['share']:.3g} %", kind["images"], kind["objects"]] for k, kind in enumerate(data["classes"])
    ]
    return [
        f"{data['images']} images of {data['groups']} groups, {100 * data['labelled']:.4g} % of their pixels labelled.",
        "",
        markdown_table(["class", "share of the pixels", "images", "objects"], rows),
        "",
    ]


def plan_lines(plan: list[Mapping[str, Any]]) -> list[str]:
    """What was planned, and why: a line for each reason."""
    flags: dict[str, list[str]] = {}
    for one in plan:
        flags.setdefault(one["reason"], []).extend(settings.typed({one["setting"]: one["value"]}))
    lines = [f"- {', '.join(f'`{flag}`' for flag in typed)}: {reason}" for reason, typed in flags.items()]
    return lines or ["Nothing was planned: settings were given, or are defaults."]


def score_lines(found: Mapping[str, Any]) -> list[str]:
    """Tables of the scores, and the worst images."""
    if not found:
        return ["The images are gone, so that nothing was scored."]
    intervals = found.get("intervals", {}).get("mean_over_images", {})
    rows = []
    for name, mean in found["mean_over_images"].items():
        interval = " to ".join(map(score_text, intervals[name])) if name in intervals else "-"
        rows.append([name, score_text(found[name]), score_text(mean), interval])
    head = ["score", "all pixels together", "mean of the images", "95 % interval of the mean"]
    lines = [markdown_table(head, rows)]
    if not found["worst"]:
        return [*lines, "", "These are of all pixels only: evaluate tells more, and renews this card."]
    if not intervals:
        lines += ["", "There are no intervals, because all images are of one group."]
    columns = ("dice", "iou", "precision", "recall")
    rows = [[row["class"], *(score_text(row[name]) for name in columns)] for row in found["per_class"]]
    lines += ["", markdown_table(["class", "Dice", "IoU", "precision", "recall"], rows)]
    worst = ", ".join(f"{stem} ({score_text(dice)})" for stem, dice in found["worst"].items())
    return [*lines, "", f"Worst images, by Dice: {worst}."]
