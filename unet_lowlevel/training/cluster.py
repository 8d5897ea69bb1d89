"""The replicas that --strategy and --cluster name: TensorFlow's strategies, and who tells it of the other processes."""

import json
import os
import shutil
from typing import TYPE_CHECKING

from unet_lowlevel.errors import UserError
from unet_lowlevel.machine import quiet, start_tensorflow
from unet_lowlevel.terminal import say

if TYPE_CHECKING:
    from unet_lowlevel.training.distributed import Replicas

STRATEGIES = {
    "none": "one device",
    "mirrored": "several devices of this process",
    "multiworker": "several processes, on one machine or on several",
}
CLUSTERS = {
    "tf_config": "the variable TF_CONFIG",
    "slurm": "Slurm, for the tasks of a step (srun)",
    "kubernetes": "Kubernetes, for the pods of a job",
    "ray": "Ray, which starts the processes as well",
}
PORT = 8470


def replicas_of(strategy: str, cluster: str = "tf_config", devices: int = 0) -> "Replicas":
    """The replicas of this process, and all others; call it before TensorFlow computes anything.

    Args:
        strategy: of `STRATEGIES`.
        cluster: of `CLUSTERS`, but for ray, in whose processes it is tf_config.
        devices: of "mirrored": how many; 0: all GPUs.

    Raises:
        UserError: when devices or processes cannot be found.
    """
    start_tensorflow()
    import tensorflow as tf

    from unet_lowlevel.training.distributed import Replicas

    if strategy == "none":
        return Replicas()

    if strategy == "mirrored":
        return Replicas(tf.distribute.MirroredStrategy(local_devices(devices)))
    resolver = {"tf_config": from_variable, "slurm": from_slurm, "kubernetes": from_kubernetes}[cluster]()
    workers = len(resolver.cluster_spec().as_dict()["worker"])
    if resolver.task_id == 0:
        say(f"waiting for all of {workers} workers")
    with quiet():
        made = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    return Replicas(made, resolver.task_id, workers)


def local_devices(count: int) -> list[str]:
    """The names of so many devices: GPUs if there are any, else the processor, shared between logical devices."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if count > len(gpus):
            raise UserError(f"--replicas is {count}, but there are {len(gpus)} GPUs: ask for so many, or leave it out.")
        return [f"GPU:{i}" for i in range(count or len(gpus))]
    if not count:
        raise UserError(
            "--strategy mirrored found no GPU: add --replicas 2, to try it on parts of the processor, or leave it out."
        )
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
    return [f"CPU:{i}" for i in range(count)]


def from_variable():
    """TF_CONFIG: {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}."""
    import tensorflow as tf

    text = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(text)
        workers, task = found["cluster"]["worker"], found["task"]
        usable = task["type"] == "worker" and 0 <= int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        raise UserError(
            f"TF_CONFIG is {text or 'not set'}, but --cluster tf_config needs in each process something like "
            '\'{"cluster": {"worker": ["host1:8470", "host2:8470"]}, "task": {"type": "worker", "index": 0}}\': set it.'
        )
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


def from_slurm():
    """The tasks of the step that this process belongs to, each a worker."""
    import tensorflow as tf

    if "SLURM_PROCID" not in os.environ:
        raise UserError("--cluster slurm finds no SLURM_PROCID: start the workers by srun, or name another --cluster.")
    # Without GPUs TensorFlow 2.21 finds no tasks: it counts them by the GPUs that they get.
    gpus = {} if shutil.which("nvidia-smi") else {"gpus_per_node": 10**4, "gpus_per_task": 1, "auto_set_gpu": False}
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=PORT, **gpus)
    resolver.cluster_spec()  # it knows its task only then
    resolver.task_type, resolver.task_id = resolver.get_task_info()
    return resolver


def from_kubernetes():
    """The running pods of the job JOB_NAME, each a worker; this one has the address POD_IP."""
    import tensorflow as tf

    job, address = os.environ.get("JOB_NAME"), os.environ.get("POD_IP")
    if not job or not address:
        raise UserError(
            "--cluster kubernetes needs JOB_NAME and POD_IP: set them as in the manifest in "
            "unet_lowlevel/training/README.md."
        )
    try:
        resolver = tf.distribute.cluster_resolver.KubernetesClusterResolver(
            {"worker": [f"job-name={job}"]}, tf_server_port=PORT
        )
        workers = resolver.cluster_spec().as_dict()["worker"]
    except ImportError:
        raise UserError("--cluster kubernetes needs the package kubernetes: pip install kubernetes.") from None
    own = f"{address}:{PORT}"
    if own not in workers:
        raise UserError(f"POD_IP is {address}, but the running pods of {job} are {', '.join(workers)}: set it.")
    resolver.task_type, resolver.task_id = "worker", workers.index(own)
    return resolver
