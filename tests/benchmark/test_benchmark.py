"""The benchmark: who computes something else is not timed, figures are what they say, and the tables show a loss."""

import dataclasses
import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from benchmark import measure, peer_ours, peers
from benchmark.command import FIXED, main
from benchmark.tables import forms_table, report
from conftest import sentence
from small_peers import small_peers

from unet_lowlevel.core import fast
from unet_lowlevel.core.ops import batch_normalization
from unet_lowlevel.errors import UserError
from unet_lowlevel.settings import apply, resolve
from unet_lowlevel.summary import step_operations

TINY = {"base_channels": 2, "depth": 2, "batch_size": 2, "crop_size": 32}
# Of Keras the whole command is run, below.
PACKAGES = [
    ("torch", "torch"),
    ("torch_compile", "torch"),
    ("onnxruntime", "onnxruntime"),
    ("openvino", "openvino"),
]


def tiny_plan():
    config = resolve(flags=FIXED | TINY)
    sizes = {"picture_size": 32, "large_size": 64, "images": 16}
    return measure.Plan(config, tuple(peers.PEERS), ("float32",), **sizes, threads=1, rounds=1, steps=2)


class WrongPlan(measure.Plan):
    """A plan whose peers are given another activation than ours has, with the same weights."""

    def task(self, precision, folder):
        task = super().task(precision, folder)
        return dataclasses.replace(task, config=apply(task.config, {"activation": "relu"}))


def installed_keys(peer, package):
    pytest.importorskip(package)
    if peers.missing_packages(peer):
        pytest.skip(f"{peer} lacks {peers.missing_packages(peer)}")
    works = ("training", "inference", "throughput")
    return [(peer, work, "float32") for work in peers.PEERS[peer].works if work in works]


def test_operations_of_a_step():
    assert step_operations(resolve(flags=FIXED | {"crop_size": 256})) == pytest.approx(72.3e9, rel=1e-3)
    tiny = resolve(flags=FIXED | TINY)
    # Levels of 32x32 and 16x16 pixels: multiply-adds of a pixel by hand.
    convolutions = 1024 * (9 * (1 * 2 + 2 * 2 + 4 * 2 + 2 * 2) + 2) + 256 * (9 * (2 * 4 + 4 * 4) + 4 * 4 * 2)
    assert step_operations(tiny) == 3 * 2 * 2 * convolutions


@pytest.mark.parametrize("peer, package", PACKAGES)
def test_peers_compute_the_same(peer, package, tmp_path):
    keys = installed_keys(peer, package)
    if peer == "torch_compile":
        keys = keys[1:2]  # the others take most of a minute to compile
    measurement = measure.Measurement(tiny_plan(), tmp_path, lambda text: None)
    notes = measurement.measure("all", keys)
    assert measurement.left_out == [] and list(notes) == keys
    for key, note in notes.items():
        assert len(note["turns"]) == 1 and note["turns"][0] > 0
        assert note["batch_size"] in (peers.BATCH_SIZES if key[1] == "throughput" else [None])


@pytest.mark.slow
@pytest.mark.parametrize(
    "peer, package", [("keras", "tensorflow"), *(entry for entry in PACKAGES if entry[0] != "torch_compile")]
)
def test_a_peer_with_another_activation_is_refused(peer, package, processes, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "PROCESSES", processes)
    keys = installed_keys(peer, package)
    plan = WrongPlan(*(getattr(tiny_plan(), item.name) for item in dataclasses.fields(measure.Plan)))
    measurement = measure.Measurement(plan, tmp_path, lambda text: None)
    assert measurement.measure("all", keys) == {}
    reasons = {entry["work"]: entry["reason"] for entry in measurement.left_out}
    assert len(reasons) == len(keys)
    assert all("its output differs from ours by" in reasons[work] for work in ("inference", "throughput"))
    assert "training" not in reasons or "its loss at step 1 is" in reasons["training"]


def test_losses_that_are_refused():
    expected = [0.7, 0.6, 0.5]
    assert measure.losses_refusal([0.70001, 0.601, 0.501], expected, "float32") == ""
    assert "step 1" in measure.losses_refusal([0.7002, 0.6, 0.5], expected, "float32")
    assert "step 3" in measure.losses_refusal([0.7, 0.6, 0.6], expected, "float32")  # it has not learned
    assert "nan" in measure.losses_refusal([math.nan, 0.6, 0.5], expected, "bfloat16")


def test_constants_that_peers_repeat():
    assert peers.EPSILON == batch_normalization.EPSILON
    pytest.importorskip("torch")
    from benchmark import torch_unet

    assert pytest.approx(1 - batch_normalization.MOMENTUM) == torch_unet.MOMENTUM


def test_rounds_that_are_not_quiet():
    """Those at whose beginning or end the machine was at another speed than around them."""
    steady = [400.0, 410.0, 390.0, 400.0, 405.0, 400.0]
    assert measure.quiet_rounds(steady) == [True] * 5
    assert measure.quiet_rounds([*steady[:2], 200.0, *steady[3:]]) == [True, False, False, True, True]
    assert measure.quiet_rounds([*steady[:3], *(200.0, 205.0, 200.0)]) == [True, True, False, True, True]


def test_figures_are_those_of_quiet_rounds():
    note = {"quiet": [True, False, True, True]}
    figure = measure.spread(np.array([3.0, 9.0, 1.0, 2.0]), note)
    assert figure == {"median": 2, "min": 1, "max": 3, "median_of_all": 2.5, "rounds": [3, 9, 1, 2]}
    assert measure.spread(np.array([3.0, 9.0, 6.0]), {"quiet": [True, False, False]})["median"] == 6


def test_rounds_are_repeated_until_enough_are_quiet(tmp_path, monkeypatch):
    speeds = iter([400.0, 400.0, 400.0, 100.0, 400.0, 400.0, 400.0, 400.0])
    monkeypatch.setattr(measure, "machine_speed", lambda: next(speeds))
    monkeypatch.setattr(measure, "Worker", CountedWorker)
    plan = dataclasses.replace(tiny_plan(), rounds=4)
    measurement = measure.Measurement(plan, tmp_path, lambda text: None)
    keys = [("ours", "whole", "float32"), ("ours", "tiled", "float32"), ("torch", "matmul", "float32")]
    notes = measurement.measure("all", keys)
    assert [row["quiet"] for row in measurement.rounds["all"]] == [True, True, False, False, True, True]
    assert measurement.rounds["all"][2]["gflops"] == [400, 100]
    assert [len(note["turns"]) for note in notes.values()] == [6, 6, 6]
    orders = [tuple(CountedWorker.asked[i : i + 3]) for i in range(3, 21, 3)]
    assert len(set(orders)) > 1 and all(set(order) == {"whole", "tiled", "matmul"} for order in orders)


class CountedWorker:
    """A process that does nothing; `asked` says who was asked."""

    asked: ClassVar[list[str]] = []

    def __init__(self, name, work, task):
        self.work, self.started = work, 0.0

    def send(self, times):
        self.asked.append(self.work)

    def receive(self):
        return {"seconds": [1.0], "output": None, "batch_size": None, "peak_bytes": 1}

    def close(self):
        pass


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What workers read, and what our network makes of it."""
    folder = tmp_path_factory.mktemp("inputs")
    unet = measure.write_inputs(tiny_plan(), folder)
    return folder, measure.expected_of(unet, tiny_plan().task("float32", folder))


# The operation of the graph that a form is made of, and where its definition stands, is not.
OPERATIONS = {
    "conv2d_of_parts": ("SplitV", ["joined_parts", "plain"]),
    "batch_norm": ("FusedBatchNormV3", ["batch_moments", "plain"]),
    "make_optimizer": ("ResourceApplyAdam", ["copying_adam", "plain"]),
}


@pytest.mark.parametrize("form", [None, *measure.FORMS], ids=lambda form: form.without if form else "training")
def test_what_stands_in_for_a_form_computes_the_same_without_it(form, inputs, monkeypatch):
    for name in (*OPERATIONS, "shifted_elu"):
        monkeypatch.setattr(fast, name, getattr(fast, name))  # to be put back
    monkeypatch.setattr(peer_ours, "use_threads", lambda *threads: None)  # which this process has settled already
    folder, expected = inputs
    work, precision = (form.without, form.precisions[0]) if form else ("training", "float32")
    peer = getattr(peer_ours, peers.PEERS["ours"].works[work])(tiny_plan().task(precision, folder))
    assert expected.refusal(work, precision, peer.run(measure.CHECKED_STEPS)[1]) == ""
    if work == "plain_inference":
        assert peer.compiled.get_concrete_function().variables  # a folded network has none
        return
    operations = peer.step.compiled.get_concrete_function().graph.get_operations()
    kinds = {operation.type for operation in operations}
    for operation, without in OPERATIONS.values():
        assert (operation in kinds) == (work not in without)
    # In bfloat16 the form is a convolution with a constant before each ELU.
    identities = [one for one in operations if one.type == "Conv2D" and one.inputs[1].op.type == "Const"]
    shifted = precision == "bfloat16" and work not in ("bfloat16_elu", "plain")
    assert len(identities) == shifted * sum(one.type == "Elu" for one in operations)


def test_every_form_of_the_book_is_measured():
    """But for `recomputed`, which has a table of its own, and `InPlaceSGD`: the benchmark trains with Adam."""
    titles = " ".join(form.title for form in measure.FORMS)
    for row in fast.__doc__.splitlines():
        if row.startswith("| `"):
            names = row.split("|")[1].replace("`", "").replace(" ", "").split(",")
            assert all(name in titles for name in names if name not in ("recomputed", "InPlaceSGD")), names


@pytest.mark.slow
def test_benchmark_measures_and_writes_what_it_prints(processes, tmp_path, capfd, monkeypatch):
    """Of the fast forms only one row, for each takes a process of its own."""
    small_peers(monkeypatch, processes)
    monkeypatch.setattr(measure, "FORMS", [form for form in measure.FORMS if form.without == "plain"])
    monkeypatch.setitem(measure.TIMES, "matmul", 1)
    output = tmp_path / "measured"
    flags = ["--quick", "--peers", "ours,keras,keras_jit", "--rounds", "2", "--steps", "2", "--threads", "1"]
    tiny = ["--base-channels", "2", "--depth", "2", "--batch-size", "2", "--size", "32", "--inference-size", "32"]
    tiny += ["--large-size", "2560"]
    assert main(["--output", str(output), *flags, *tiny]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert {path.name for path in output.iterdir()} == {"benchmark.json", "benchmark.md"}
    results = json.loads((output / "benchmark.json").read_text())
    text = (output / "benchmark.md").read_text()
    assert text in printed.out and text == report(results)
    for work in ("training", "inference", "throughput"):
        assert [row["peer"] for row in results[work]] == ["ours", "keras", "keras_jit"]
        figure = results[work][0]["speed_of_ours"]
        assert all(figure[name] == 1 for name in ("median", "min", "max", "median_of_all"))
    for row in results["training"]:
        assert 2**20 < row["peak_bytes"] < 2**30 and 0.1 < row["seconds_to_first_step"] < 120
        assert 0 < row["share_of_peak"] < 1 < row["convolutions_alone"]["min"]
        assert row["images_per_second"]["min"] <= row["images_per_second"]["max"]
    assert results["pipeline"]["memory_share"]["median"] > 0 and results["pipeline"]["files_share"]["median"] > 0
    (again,), (tiles,) = results["recompute"], results["tiling"]
    assert again["saved"] < 1 and again["time"]["median"] > 0
    assert tiles["share"]["median"] > 0 and tiles["tiled_peak_bytes"] > 2**20
    assert all(row["milliseconds"]["min"] > 0 for row in results["inference"])
    assert all(row["images_per_second"]["min"] > 0 for row in results["training"])
    (form,) = results["forms"]
    assert (form["form"], form["work"], form["precision"]) == ("all of these (`--plain`)", "training", "float32")
    assert all(0 < form[name]["min"] <= form[name]["median"] <= form[name]["max"] for name in ("without", "with"))
    assert form["without"]["min"] / form["with"]["max"] <= form["gain"]["median"]
    assert form["gain"]["median"] <= form["without"]["max"] / form["with"]["min"]
    assert results["left_out"] == []


def figure(value):
    return {"median": value, "min": value * 0.9, "max": value * 1.1}


def fixed_results():
    def row(peer, **figures):
        return {"peer": peer, "precision": "float32", **figures}

    training = {"share_of_peak": 0.5, "convolutions_alone": figure(1.5)}
    training |= {"peak_bytes": 2**30, "seconds_to_first_step": 4.0}
    return {
        "settings": tiny_plan().described(),
        "machine": {"processor": "some", "cores": 2, "versions": {"python": "3.11"}},
        "how": {"openvino": "fast"},
        "rounds": {"training": [{"gflops": [400.0, 200.0], "quiet": False}, {"gflops": [200.0, 200.0], "quiet": True}]},
        "gflop_of_a_step": 72.3,
        "peak": [row("ours", gflops=figure(200.0)), row("torch", gflops=figure(150.0))],
        "convolutions": [{"precision": "float32", "milliseconds": figure(50.0)}],
        "training": [
            row("ours", images_per_second=figure(10.0), speed_of_ours=figure(1.0), **training),
            row("torch", images_per_second=figure(8.0), speed_of_ours=figure(1.25), **training | {"peak_bytes": 2**29}),
        ],
        "inference": [
            row("ours", milliseconds=figure(100.0), difference=0.0, speed_of_ours=figure(1.0)),
            row("openvino", milliseconds=figure(80.0), difference=2e-6, speed_of_ours=figure(0.8)),
        ],
        "throughput": [
            row("ours", batch_size=4, images_per_second=figure(60.0), difference=1e-6, speed_of_ours=figure(1.0)),
            row("openvino", batch_size=1, images_per_second=figure(50.0), difference=2e-6, speed_of_ours=figure(1.2)),
        ],
        "recompute": [{"precision": "float32", "peak_bytes": 2**28, "saved": 0.4, "time": figure(1.3)}],
        "tiling": [
            {
                "precision": "float32",
                **{"whole": figure(4.0), "tiled": figure(3.6), "share": figure(0.9)},
                **{"whole_peak_bytes": 2**30, "tiled_peak_bytes": 2**29},
            }
        ],
        "forms": [
            {"form": "`batch_norm`", "work": "training", "precision": "float32"}
            | {"without": figure(110.0), "with": figure(100.0), "gain": figure(1.1)},
            {"form": "`FoldedUNet`", "work": "inference", "precision": "float32"}
            | {"without": figure(30.0), "with": figure(20.0), "gain": figure(1.5)},
        ],
        "pipeline": {
            "constant": figure(10.0),
            **{"memory": figure(9.5), "memory_share": figure(0.95), "files": figure(9.0), "files_share": figure(0.9)},
        },
        "left_out": [{"peer": "keras", "work": "all", "precision": "all", "reason": "not installed: tensorflow"}],
    }


def test_report():
    lines = report(fixed_results()).splitlines()
    assert "| this project | float32 | 10.00 (9.00 to 11.00) | 50% | 1.50 (1.35 to 1.65) |  |" in lines
    assert "| PyTorch | float32 | 8.00 (7.20 to 8.80) | 50% | 1.50 (1.35 to 1.65) | 1.25 (1.12 to 1.38) |" in lines
    assert "| OpenVINO | float32 | 80.0 (72.0 to 88.0) | **0.80 (0.72 to 0.88): slower** | 2.0e-06 |" in lines
    assert "### Many images of 32x32, 16 in a turn" in lines
    assert "| OpenVINO | float32 | 1 | 50.0 (45.0 to 55.0) | 1.20 (1.08 to 1.32) | 2.0e-06 |" in lines
    assert "| torch.mm, a slow BLAS path and no limit | float32 | 150 (135 to 165) |" in lines
    assert lines[0].endswith("left out where at least as many remain: 1 of 2 (training).")
    assert "| PyTorch | float32 | 512 | 4.0 |" in lines
    assert "| from memory | 9.50 (8.55 to 10.45) | 0.950 (0.855 to 1.045) |" in lines
    assert "| float32 | 256 | 40% | 1.30 (1.17 to 1.43) |" in lines
    assert "### Tile by tile: 64x64, beside 16x16 whole" in lines
    assert "| float32 | 4.00 (3.60 to 4.40) | 3.60 (3.24 to 3.96) | 0.900 (0.810 to 0.990) | 1024 | 512 |" in lines
    assert "### What each fast form gains" in lines
    begin = "| `batch_norm` | float32 | a step |"
    assert f"{begin} 110.0 (99.0 to 121.0) | 100.0 (90.0 to 110.0) | 1.10 (0.99 to 1.21) |" in lines
    begin = "| `FoldedUNet` | float32 | an image |"
    assert f"{begin} 30.0 (27.0 to 33.0) | 20.0 (18.0 to 22.0) | 1.50 (1.35 to 1.65) |" in lines
    assert "- Ours is slower to train than none of them." in lines
    assert "- Ours is slower to predict than OpenVINO (float32)." in lines
    assert "- Ours is slower to predict many images than none of them." in lines
    assert "- The convolutions of our step alone take oneDNN 50.0 (45.0 to 55.0) ms (float32)." in lines
    assert "- OpenVINO: fast." in lines
    assert "- Ours is larger in memory than PyTorch (float32)." in lines
    assert "- Left out: Keras, all, all: not installed: tensorflow." in lines


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--peers", "torch,jax"], ["--peers", "jax"]),
        (["--precision", "float16"], ["--precision", "float16"]),
        (["--size", "100"], ["--size", "100", "multiple of 16"]),
        (["--large-size", "8200"], ["--large-size", "8200", "multiple of 64"]),
        (["--threads", "0"], ["--threads", "0"]),
        (["--rounds", "0"], ["--rounds", "0"]),
        (["--depth", "9"], ["--depth", "9"]),
    ],
)
def test_a_mistake_is_one_sentence(flags, words, tmp_path, capsys):
    assert main(["--output", str(tmp_path / "new"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words)
    assert not (tmp_path / "new").exists()


def test_precisions_that_are_asked_for_go_before_those_of_quick(tmp_path, monkeypatch):
    plans = []
    monkeypatch.setattr(measure, "run", lambda plan, say: plans.append(plan) or fixed_results())
    for flags in ([], ["--quick"], ["--quick", "--precision", "bfloat16"]):
        assert main(["--output", str(tmp_path / str(len(plans))), *flags]) == 0
    assert [plan.precisions for plan in plans] == [peers.PRECISIONS, ("float32",), ("bfloat16",)]


def test_ours_must_not_fail(tmp_path):
    measurement = measure.Measurement(tiny_plan(), tmp_path, lambda text: None)
    (tmp_path / "weights.npz").unlink()
    with pytest.raises(UserError) as caught:
        measurement.measure("all", [("ours", "inference", "float32")])
    sentence(caught, "inference", "weights.npz")


def test_tables_of_the_readme_are_produced_not_typed():
    measured = Path(__file__).parents[2] / "data" / "measured"
    text = (measured / "README.md").read_text(encoding="utf-8")
    results = json.loads((measured / "benchmark.json").read_text(encoding="utf-8"))
    assert report(results).strip() in text
    forms = json.loads((measured / "fast_forms.json").read_text(encoding="utf-8"))["forms"]
    assert forms_table(forms).strip() in text
