"""Compares the trainings of three implementations, as JSON and as a table."""

import ast
import io
import statistics
import tokenize
from pathlib import Path

from unet_lowlevel.markdown import markdown_table
from unet_lowlevel.training.history import kept_epoch

PACKAGE = Path(__file__).parents[1]

# The files that each style needs. Files that all three share are not counted: losses, scores, data, the run folder. The
# padding and cropping around the network, in core/unet.py, is counted as low-level only.
OWN_TRAINING = [f"core/{name}.py" for name in ("optimizers", "moving_average", "step")]
OWN_TRAINING += [f"training/{name}.py" for name in ("steps", "totals", "trainer")]
PARTS = {
    "lowlevel": {
        "model": [
            *sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("core/ops/[a-z]*.py")),
            "core/unet.py",
        ],
        "training": OWN_TRAINING,
    },
    "highlevel": {
        "model": ["reference/layers_unet.py"],
        "training": OWN_TRAINING,
    },
    "keras": {"model": ["reference/keras_unet.py"], "training": ["reference/keras_trainer.py"]},
}
STYLES = {
    "lowlevel": "low-level: own ops, own step",
    "highlevel": "high-level: `tf.keras.layers`, own step",
    "keras": "Keras: functional model, `fit`",
}
FIRST_STEPS = 20


def code_lines(source: str) -> int:
    """Lines of Python that hold code: no blank lines, comments or docstrings, and no demonstration of the module."""
    source = source.partition('\n\nif __name__ == "__main__":')[0] + "\n"
    passed_over = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in passed_over:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def lines_of(implementation: str, part: str) -> int:
    """Lines of code of the "model" or of the "training" of an implementation."""
    return sum(code_lines((PACKAGE / name).read_text(encoding="utf-8")) for name in PARTS[implementation][part])


def compare(runs: dict[str, Path], notes: dict[str, dict], batch_size: int) -> dict[str, dict]:
    """The figures of all trainings.

    Args:
        runs: {implementation: run folder}.
        notes: {implementation: {losses, the mean loss of its epoch up to each step; step_seconds;
            seconds_to_first_step, from the start of the process to the end of the step; peak_bytes, resident
            memory of the process at its highest}}.
        batch_size: images of a step.

    Returns:
        {implementation: {name: figure}}; differences and relative speed compare the same steps.
    """
    reference, results = notes["lowlevel"], {}
    for name, run in runs.items():
        noted = notes[name]
        differences = [abs(a - b) for a, b in zip(noted["losses"], reference["losses"], strict=True)]
        ratios = [a / b for a, b in zip(reference["step_seconds"], noted["step_seconds"], strict=True)]
        kept = kept_epoch(run)
        results[name] = {
            "steps": len(noted["losses"]),
            "train_loss": noted["losses"][-1],
            "largest_difference_of_first_steps": max(differences[:FIRST_STEPS]),
            "largest_difference": max(differences),
            "seconds_to_first_step": noted["seconds_to_first_step"],
            # Medians ignore steps that had to wait for the compilation or for a validation.
            "images_per_second": batch_size / statistics.median(noted["step_seconds"]),
            "relative_speed": statistics.median(ratios),
            "peak_bytes": noted["peak_bytes"],
            **{score: kept[f"validation_{score}"] for score in ("dice", "iou", "mean_iou")},
        }
    return results


def steps_csv(notes: dict[str, dict]) -> str:
    """Loss and seconds of every step of each implementation."""
    names = list(notes)
    header = ["step", *(f"{name}_{what}" for name in names for what in ("loss", "seconds"))]
    columns = [column for name in names for column in (notes[name]["losses"], notes[name]["step_seconds"])]
    rows = [[str(i), *(f"{value:.7g}" for value in row)] for i, row in enumerate(zip(*columns, strict=True), start=1)]
    return "\n".join(",".join(row) for row in [header, *rows]) + "\n"


def table(results: dict[str, dict]) -> str:
    """The results, and the lines of code as they are now, as a Markdown table with a column for each implementation."""
    names = list(results)
    steps = results[names[0]]["steps"]
    rows = {
        f"train loss after {steps} steps": lambda r: f"{r['train_loss']:.4f}",
        f"largest difference of it, first {FIRST_STEPS} steps": lambda r: (
            f"{r['largest_difference_of_first_steps']:.1e}"
        ),
        "largest difference of it, all steps": lambda r: f"{r['largest_difference']:.1e}",
        "seconds to the first step": lambda r: f"{r['seconds_to_first_step']:.1f}",
        "images per second": lambda r: f"{r['images_per_second']:.1f}",
        "speed, low-level = 1": lambda r: f"{r['relative_speed']:.2f}",
        "peak memory, MiB": lambda r: f"{r['peak_bytes'] / 2**20:.0f}",
        "validation Dice": lambda r: f"{r['dice']:.4f}",
        "validation IoU": lambda r: f"{r['iou']:.4f}",
        "validation mean IoU over thresholds": lambda r: f"{r['mean_iou']:.4f}",
    }
    lines = [[title, *(show(results[name]) for name in names)] for title, show in rows.items()]
    lines += [[f"lines of code, {part}", *(str(lines_of(name, part)) for name in names)] for part in PARTS[names[0]]]
    return markdown_table(["", *(STYLES[name] for name in names)], lines) + "\n"
