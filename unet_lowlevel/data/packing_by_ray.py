"""Packing by many processes: Ray hands out the shards, which depend on nothing but their images."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from unet_lowlevel.config import Config
from unet_lowlevel.data.files import Pair
from unet_lowlevel.data.packing import pack_shard
from unet_lowlevel.errors import UserError
from unet_lowlevel.ray_session import failed, ray_session


def pack_by_ray(shards: Mapping[Path, list[Pair]], config: Config, workers: int = 0) -> Iterator[Path]:
    """Writes shards by processes of Ray; gives the path of each one that is finished.

    Ray gives the shard of a process that is lost to another one.

    Args:
        shards: {path: pairs}, in a folder that all processes reach.
        config: see `pack`.
        workers: processes at a time; 0: one for each machine.

    Raises:
        UserError: when a pair cannot be used, files cannot be written, or processes are lost again and again.
    """
    with ray_session(workers) as share:
        import ray

        packed = ray.remote(num_cpus=share.cpus, max_retries=3)(packed_shard)
        running = [packed.remote(pairs, config, path, os.getcwd()) for path, pairs in shards.items()]
        while running:
            (done,), running = ray.wait(running)
            try:
                path, mistake = ray.get(done)
            except ray.exceptions.RayError as error:
                raise failed(error, "the same command goes on") from error
            if mistake:
                raise UserError(mistake)
            yield path


def packed_shard(pairs: list[Pair], config: Config, path: Path, folder: str) -> tuple[Path, str]:
    """`pack_shard` in `folder`, to which paths are relative; its path, and a sentence if it could not be written."""
    os.chdir(folder)
    try:
        pack_shard(pairs, config, path)
    except UserError as error:
        return path, str(error)
    return path, ""
