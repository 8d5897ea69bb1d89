"""Several replicas, in one process or in several, train as one does."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from kill_and_resume import FLAGS, finish, history, start, state
from kill_workers import kill_one, of_worker, start_workers

from unet_lowlevel import settings
from unet_lowlevel.config import Config
from unet_lowlevel.core.unet import UNet
from unet_lowlevel.errors import UserError
from unet_lowlevel.training import cluster
from unet_lowlevel.training.distributed import Replicas
from unet_lowlevel.training.steps import train_step
from unet_lowlevel.training.train import follow

# An epoch is a step, so that history.csv has the loss of each. Seven images are shared unevenly.
STEPS = ["--base-channels", "4", "--depth", "2", "--epochs", "20", "--steps-per-epoch", "1", "--batch-size", "7"]
STEPS += ["--dropout-rate", "0.2", "--ema-decay", "0.9", "--threshold", "0.2", "--sync-batch-norm", "--clip-norm", "1"]
STEPS += ["--plan", "off", "--no-check", "--group-regex", "patient-\\d+"]


@pytest.fixture(scope="module")
def runs(phantoms, tmp_path_factory):
    """The same training by one replica, two of one process, and two processes."""
    place = tmp_path_factory.mktemp("replicas")
    flags = ["--data", str(phantoms), *STEPS]
    processes = {
        place / "one": start(["--run", str(place / "one"), *flags], place / "one-errors"),
        place / "mirrored": start(
            ["--run", str(place / "mirrored"), "--strategy", "mirrored", "--replicas", "2", *flags],
            place / "mirrored-errors",
        ),
    }
    for run, process in processes.items():
        finish(process, run.with_name(f"{run.name}-errors"))
    run = place / "multiworker"
    for i, process in enumerate(start_workers(run, flags, place / "errors")):
        finish(process, of_worker(place / "errors", i))
    return place


@pytest.mark.parametrize("name", ["mirrored", "multiworker"])
def test_replicas_train_as_one_does(name, runs):
    one, several = history(runs / "one"), history(runs / name)
    assert len(one) == len(several) == 20
    for ours, theirs in zip(one, several, strict=True):
        for column in ours:
            assert float(theirs[column]) == pytest.approx(float(ours[column]), rel=1e-5, abs=1e-5), column
    ours, theirs = state(runs / "one", "best"), state(runs / name, "best")
    assert ours.keys() == theirs.keys()
    for variable in ours:
        np.testing.assert_allclose(theirs[variable], ours[variable], rtol=1e-3, atol=1e-4, err_msg=variable)


def step_of_two(path, accumulate):
    """Writes to a file what a step of two replicas does without synchronized normalization."""
    replicas = cluster.replicas_of("mirrored", devices=2)
    with replicas.scope():
        model, step = unsynchronized(accumulate)
    images, labels = batch()
    results = replicas.compiled(step)(False, len(images), tf.constant(images), tf.constant(labels))
    moving = [v.numpy() for name, v in model.named_variables().items() if "moving" in name]
    np.savez(path, *[g.numpy() for g in results["gradients"]], *moving, loss=results["loss"].numpy())


def unsynchronized(accumulate=1):
    flags = {"base_channels": 2, "depth": 2, "in_channels": 1, "crop_size": 16, "accumulate": accumulate}
    config = settings.apply(Config(), flags)
    model = UNet(config.model, seed=3)
    return model, train_step(model, config, (16, 16), 10)


def batch():
    random = np.random.default_rng(0)
    return random.normal(size=(7, 16, 16, 1)).astype(np.float32), random.integers(0, 2, (7, 16, 16)).astype(np.int32)


@pytest.mark.parametrize(
    ("accumulate", "parts_of_each"), [(1, [[(0, 3)], [(3, 7)]]), (2, [[(0, 1), (1, 3)], [(3, 5), (5, 7)]])]
)
def test_without_synchronization_each_replica_normalizes_by_its_images(accumulate, parts_of_each, processes, tmp_path):
    """Held to one network that is given the parts of the batch one after the other."""
    process = processes.Process(target=step_of_two, args=(str(tmp_path / "two.npz"), accumulate))
    process.start()
    model, step = unsynchronized()
    images, labels = batch()
    expected, moved, total = 0.0, 0.0, 0.0
    moving = [v for name, v in model.named_variables().items() if "moving" in name]
    start = [v.numpy() for v in moving]
    for parts in parts_of_each:
        for first, last in parts:
            with tf.GradientTape() as tape:
                logits = model(images[first:last], training=True)
                loss = (last - first) / 7 * step.loss(labels[first:last], logits)
            expected = expected + np.array([g.numpy() for g in tape.gradient(loss, step.weights)], object)
            total += float(loss)
        moved = moved + (parts[-1][1] - parts[0][0]) / 7 * np.array([v.numpy() for v in moving], object)
        for variable, value in zip(moving, start, strict=True):
            variable.assign(value)
    process.join()
    with np.load(tmp_path / "two.npz") as found:
        assert float(found["loss"]) == pytest.approx(total, rel=1e-6)
        for i, value in enumerate([*expected, *moved]):
            np.testing.assert_allclose(found[f"arr_{i}"], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_killed_worker_ends_the_other_and_both_go_on_bit_for_bit(phantoms, tmp_path):
    from kill_and_resume import assert_same_training

    flags = ["--data", str(phantoms), "--plan", "off", "--no-check", "--epochs", "2", *FLAGS]
    workers = start_workers(tmp_path / "undisturbed", flags, tmp_path / "whole")
    for i, worker in enumerate(workers):
        finish(worker, of_worker(tmp_path / "whole", i))
    run, errors, notes = tmp_path / "disturbed", tmp_path / "errors", tmp_path / "notes"
    kill_one(run, flags, errors, 1, when=lambda: notes.exists() and len(notes.read_text().split()) > 20, notes=notes)
    for i, worker in enumerate(start_workers(run, flags, errors)):
        finish(worker, of_worker(errors, i))
    assert_same_training(tmp_path / "undisturbed", run)


def test_a_signal_to_any_worker_stops_all_and_any_number_goes_on(runs, phantoms, tmp_path):
    run, errors, notes = tmp_path / "run", tmp_path / "errors", tmp_path / "notes"
    workers = start_workers(run, ["--data", str(phantoms), *STEPS, "--epochs", "20"], errors, pause=0.1, notes=notes)
    while not notes.exists() and all(worker.is_alive() for worker in workers):
        workers[1].join(0.1)
    os.kill(workers[1].pid, signal.SIGTERM)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [128 + signal.SIGTERM] * 2, of_worker(errors, 0).read_text()
    assert 0 < len(history(run)) < 20
    finish(start(["--run", str(run), "--resume"], tmp_path / "alone"), tmp_path / "alone")
    for ours, theirs in zip(history(runs / "one"), history(run), strict=True):
        assert float(theirs["train_loss"]) == pytest.approx(float(ours["train_loss"]), rel=1e-5)


def test_shares_cover_a_batch():
    class Strategy:
        num_replicas_in_sync = 4

    for size in (4, 7, 8, 9):
        parts = [Replicas(Strategy(), worker, workers=2).of_worker(size) for worker in range(2)]
        assert parts[0].start == 0 and parts[0].stop == parts[1].start and parts[1].stop == size
    with pytest.raises(UserError, match="4 replicas cannot share a batch of 3 images"):
        Replicas(Strategy()).check(3)


def test_a_worker_with_other_data_says_so(phantoms):
    class Other(Replicas):
        def told(self, what=None, speaker=0):
            config = settings.apply(Config(), {"data": str(phantoms)})
            return settings.to_json(config), {"training": [], "validation": []}, "digest"

    with pytest.raises(UserError, match="holds other data in worker 1 than in worker 0"):
        follow(Other(worker=1, workers=2), None)


def test_a_lost_worker_is_one_sentence():
    with pytest.raises(UserError, match="Worker 1 of 2 has lost another") as caught, Replicas(None, 1, 2).others():
        raise tf.errors.UnavailableError(None, None, "connection\nreset")
    assert caught.value.exit_code == 75
    with pytest.raises(tf.errors.UnavailableError), Replicas().others():
        raise tf.errors.UnavailableError(None, None, "something else")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}']
)
def test_a_wrong_tf_config(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=r"TF_CONFIG is .* needs in each process something like"):
        cluster.replicas_of("multiworker")


def test_the_tasks_of_slurm(monkeypatch):
    with pytest.raises(UserError, match="finds no SLURM_PROCID"):
        cluster.from_slurm()
    tasks = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "2,1"}
    for name, value in (tasks | {"SLURM_STEP_NODELIST": "node[1-2]"}).items():
        monkeypatch.setenv(name, value)
    resolver = cluster.from_slurm()
    assert resolver.task_id == 2
    assert resolver.cluster_spec().as_dict() == {"worker": ["node1:8470", "node1:8471", "node2:8470"]}


def test_the_pods_of_kubernetes(monkeypatch):
    with pytest.raises(UserError, match="needs JOB_NAME and POD_IP"):
        cluster.from_kubernetes()
    monkeypatch.setenv("JOB_NAME", "unet")
    monkeypatch.setenv("POD_IP", "10.0.0.2")

    class Resolver:
        def __init__(self, labels, tf_server_port):
            assert labels == {"worker": ["job-name=unet"]}

        def cluster_spec(self):
            return tf.train.ClusterSpec({"worker": ["10.0.0.1:8470", "10.0.0.2:8470"]})

    monkeypatch.setattr(tf.distribute.cluster_resolver, "KubernetesClusterResolver", Resolver)
    assert cluster.from_kubernetes().task_id == 1
    monkeypatch.setenv("POD_IP", "10.0.0.3")
    with pytest.raises(UserError, match=r"POD_IP is 10\.0\.0\.3, but the running pods"):
        cluster.from_kubernetes()

    def missing(*_, **__):
        raise ImportError("kubernetes")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "KubernetesClusterResolver", missing)
    with pytest.raises(UserError, match="needs the package kubernetes"):
        cluster.from_kubernetes()


def test_without_a_gpu_the_processor_is_shared_on_demand_only():
    with pytest.raises(UserError, match="--strategy mirrored found no GPU: add --replicas 2"):
        cluster.local_devices(0)
