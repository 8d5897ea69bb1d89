"""A training from settings to a finished run folder: reads the data, splits it, trains."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_lowlevel import run_folder, settings
from unet_lowlevel.config import Config
from unet_lowlevel.data.files import Pair, find_pairs
from unet_lowlevel.data.packed import as_packed
from unet_lowlevel.data.samples import Sample
from unet_lowlevel.data.splits import split
from unet_lowlevel.data.storage import gather, in_memory, on_disk
from unet_lowlevel.errors import NothingFound, UserError, listed
from unet_lowlevel.machine import start_tensorflow
from unet_lowlevel.terminal import OnStep, note, progress, say, show_path

if TYPE_CHECKING:
    from unet_lowlevel.planning.before_training import Planned
    from unet_lowlevel.training.distributed import Replicas

# {"training": stems, "validation": stems}
Split = Mapping[str, list[str]]
PHANTOMS = Path("data/phantoms")
# Enough patients for a fair split, small enough that the first training takes two minutes.
PHANTOM_SETTINGS: dict[str, Any] = {"count": 160, "size": (128, 128), "slices_per_patient": 8, "seed": 0}
# Settings that may change with `resume`.
CHANGES_ON_RESUME = ("epochs", "stream", "learning_rate", "clip_norm", "profile")
# Settings that are chosen by the data if they are 0 or empty; the run folder holds the chosen values.
SETTLED_BY_DATA = ("in_channels", "crop_size", "data", "group_regex", "threshold")


def train(
    config: Config,
    run: str | Path,
    *,
    resume: bool = False,
    check: bool = True,
    on_step: OnStep | None = None,
    implementation: str = "lowlevel",
    make_trainer: Callable | None = None,
    replicas: "Replicas | None" = None,
) -> dict:
    """Trains a network and writes the run folder.

    Args:
        config: all settings; without `data` the network learns generated slices, made in data/phantoms.
        run: the run folder, a new one unless `resume`.
        resume: go on with `run` from its newest checkpoint; only `CHANGES_ON_RESUME` may differ from its settings.
        check: warn of what is probably wrong with the data, as the command check does, and refuse a step that needs
            more memory than there is; never with `resume`.
        on_step: called after every step with its number and the mean loss of the epoch so far.
        implementation: recorded in the run folder: lowlevel, highlevel or keras.
        make_trainer: makes the trainer of (config, run, training samples, validation samples); None: `Trainer`.
        replicas: where it runs; None: one replica in this process. Of several processes each has to call this function,
            and those that are not the chief get everything but the data from it.

    Returns:
        the row of history.csv of the epoch whose weights are in best/.

    Raises:
        UserError: for data, settings or a folder that cannot be used; a training that has begun leaves its last
            checkpoint intact.
        NothingFound: a `UserError`, at the end of a training whose network finds no foreground; see `nothing_found`.
        interruption.Stopped: after Ctrl-C or SIGTERM, with the state saved.
    """
    run = Path(run)
    if replicas and not replicas.chief:
        with replicas.others():
            return follow(replicas, on_step)
    if resume:
        config, fingerprint, parts = resumed(config, run, implementation)
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_folder.in_use(run) if resume else run_folder.taken(run))
        if replicas:
            stack.enter_context(replicas.others())
        if not resume:
            config = as_packed(with_default_data(with_init(config)))
        pairs = find_pairs(config.data)
        if not resume:
            parts = split_of(pairs, config)
        planned = None if resume else look_if_wanted(pairs, config, check=check)
        config = planned.config if planned else config
        keep = stack.enter_context(on_disk(run) if config.data.stream else in_memory(len(pairs)))
        samples, digest = gather(pairs, config, keep, progress("reading"))
        if resume and digest != fingerprint:
            raise UserError(f"The data of {run} has changed since the training began: restore it, or train anew.")
        unknown = {stem for stems in parts.values() for stem in stems} - {sample.stem for sample in samples}
        if unknown:
            raise UserError(
                f"{run / 'split.json'} names {listed(sorted(unknown))}, but the data has no such image: restore it."
            )
        data = TrainingData(samples, digest, parts, groups_of(pairs), planned)
        config, data = fit_to_data(config, data)
        trainer = run_training(
            config,
            run,
            data,
            resume=resume,
            on_step=on_step,
            implementation=implementation,
            make_trainer=make_trainer,
            replicas=replicas,
        )
        problem = nothing_found(trainer)
    if problem and not config.training.overfit_one_batch:  # which has its own verdict
        raise NothingFound(problem)
    return trainer.journal.kept()


def follow(replicas: "Replicas", on_step: OnStep | None) -> dict:
    """The part of a process that is not the chief: trains along, and writes nothing that lasts.

    Raises:
        UserError: when its data are not those of the chief, or another process is lost.
    """
    from unet_lowlevel.training.trainer import Trainer

    stored, parts, digest = replicas.told()
    config = settings.apply(settings.from_json(stored, "the chief"), {"init": ""})  # it gives the weights, too
    with tempfile.TemporaryDirectory() as folder:
        run, pairs = Path(folder), find_pairs(config.data)
        with on_disk(run) if config.data.stream else in_memory(len(pairs)) as keep:
            samples, own_digest = gather(pairs, config, keep)
            if own_digest != digest:
                raise UserError(
                    f"{config.data.data or config.data.images} holds other data in worker {replicas.worker} than in "
                    "worker 0: give all workers the same."
                )
            data = TrainingData(samples, digest, parts, groups_of(pairs))
            config, training, validation = to_train_on(config, data)
            with contextlib.redirect_stdout(None):
                trainer = Trainer(config, run, training, validation, replicas=replicas)
                return trainer.fit(on_step=on_step)


def to_train_on(config: Config, data: "TrainingData") -> tuple[Config, list[Sample], list[Sample]]:
    """The training and the validation samples, with --overfit-one-batch both the same; with settings for it."""
    from unet_lowlevel.data.pipeline import one_batch

    training, validation = data.of("training"), data.of("validation")
    if config.training.overfit_one_batch:
        config, batch = one_batch(config, training)
        return config, batch, batch
    return config, training, validation


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The decoded data of a training.

    Attributes:
        samples: all of them.
        digest: the fingerprint of the data; see `storage.gather`.
        parts: the stems of the training and of the validation samples.
        groups: see `groups_of`.
        planned: the plan, of a new training that has one.
    """

    samples: list[Sample]
    digest: str
    parts: Split
    groups: Mapping[str, str]
    planned: "Planned | None" = None

    def of(self, part: str) -> list[Sample]:
        """The samples of a part of the split."""
        by_stem = {sample.stem: sample for sample in self.samples}
        return [by_stem[stem] for stem in self.parts[part]]


def resumed(config: Config, run: Path, implementation: str) -> tuple[Config, str | None, Split]:
    """The run's settings with `CHANGES_ON_RESUME`, its data's fingerprint, its split; or a `UserError`."""
    stored_config, stored, parts = run_folder.read(run)
    run_folder.check_resumable(run)
    if stored.get("implementation") != implementation:
        raise UserError(f"--run {run} was not made by train_{implementation}.py: go on with the script that made it.")
    if stored_config.training.overfit_one_batch:
        start_tensorflow()
        from unet_lowlevel.data.pipeline import settings_of_one_batch

        config = settings_of_one_batch(config)
    check_asked_settings(run, stored_config, config, CHANGES_ON_RESUME)
    asked = CHANGES_ON_RESUME if config.training.plan == "off" else config.given.intersection(CHANGES_ON_RESUME)
    changes = {name: settings.value_of(config, name) for name in asked}
    return settings.apply(stored_config, changes), stored.get("data_fingerprint"), parts


def check_asked_settings(run: Path, stored: Config, config: Config, may_change: Collection[str]) -> None:
    """Raises a `UserError` if `config` asks for other settings than those `stored` in `run`, except in `may_change`.

    What the data has decided in the run, and `config` leaves open, is no difference.
    """
    for name, (theirs, ours) in settings.differences(stored, config).items():
        planned = config.training.plan == "auto" and name not in config.given
        settled = planned or (name in SETTLED_BY_DATA and not ours)
        if name not in may_change and not settled:
            raise UserError(
                f"{run} was begun with {settings.flag(name)} {theirs}, not {ours}: go on with the run's own settings."
            )


def with_init(config: Config) -> Config:
    """`config` with the network and the size of images of the run of --init, instead of planned ones.

    Raises:
        UserError: when that run cannot be used, before data is read.
    """
    if not config.training.init:
        return config
    init = Path(config.training.init)
    stored = run_folder.read(init, "--init")[0]
    start_tensorflow()
    from unet_lowlevel.training.initial_weights import NETWORK, read_weights

    read_weights(init)
    taken = {name: settings.value_of(stored, name) for name in NETWORK if name not in config.given}
    return settings.apply(config, taken) if config.training.plan == "auto" else config


def with_default_data(config: Config) -> Config:
    """`config` with the phantoms as data if it names none, see `by_patient`; makes the phantoms if they are missing."""
    if config.data.data or config.data.images:
        return by_patient(config)
    if not PHANTOMS.exists():
        from unet_lowlevel.data.phantoms import phantom

        try:
            phantom.write_phantoms(PHANTOMS, **PHANTOM_SETTINGS, progress=progress("drawing phantoms"))
            say(f"drew {PHANTOM_SETTINGS['count']} phantoms into {show_path(PHANTOMS)}")
        except (OSError, UserError):
            if not PHANTOMS.exists():  # else another training has drawn them meanwhile, the same to the bit
                raise
    return by_patient(settings.apply(config, {"data": str(PHANTOMS)}))


def by_patient(config: Config) -> Config:
    """`config` with the phantoms' patients as groups, if its data are those of `PHANTOMS` and it names no groups."""
    if config.data.group_regex or not is_of_phantoms(config):
        return config
    from unet_lowlevel.data.phantoms import phantom

    return settings.apply(config, {"group_regex": phantom.GROUP_REGEX})


def is_of_phantoms(config: Config) -> bool:
    """Whether the data are those of `PHANTOMS`."""
    return bool(config.data.data) and Path(config.data.data).absolute() == PHANTOMS.absolute()


def groups_of(pairs: list[Pair]) -> dict[str, str]:
    """{stem: patient or volume}; see `files.Pair.group`."""
    return {pair.stem: pair.group for pair in pairs}


def split_of(pairs: list[Pair], config: Config) -> Split:
    """Which images train and which are held out."""
    groups = groups_of(pairs)
    training, validation = split(list(groups), config.data, config.training.seed, groups)
    return {"training": training, "validation": validation}


def look_if_wanted(pairs: list[Pair], config: Config, *, check: bool) -> "Planned | None":
    """`look_at`, if there is something to check or to plan."""
    if not check and config.training.plan == "off" and not config.training.minutes:
        return None
    from unet_lowlevel.planning.before_training import look_at

    return look_at(pairs, config, check=check)


def fit_to_data(config: Config, data: TrainingData) -> tuple[Config, TrainingData]:
    """Sets what the data decides: channels, crop size, and with --minutes the number of steps; prints the plan."""
    start_tensorflow()
    from unet_lowlevel.data.pipeline import resolve_crop_size
    from unet_lowlevel.training.speed import measured

    channels, wanted = data.samples[0].image.shape[-1], config.model.in_channels
    if wanted not in (0, channels):
        raise UserError(f"--in-channels is {wanted}, but the images have {channels} channels: leave the flag out.")
    config = settings.apply(config, {"in_channels": channels})
    crop_size = resolve_crop_size(config, [sample.size for sample in data.samples])
    config, planned = settings.apply(config, {"crop_size": crop_size}), data.planned
    if planned and planned.waits():
        planned = planned.at(measured(config, data.of("training"), data.of("validation")))
        config = settings.apply(config, {choice.setting: choice.value for choice in planned.choices})
    if planned and planned.choices:
        say(planned.text())
    return config, dataclasses.replace(data, planned=planned)


def run_training(
    config: Config,
    run: Path,
    data: TrainingData,
    *,
    resume: bool,
    on_step: OnStep | None,
    implementation: str = "lowlevel",
    make_trainer: Callable | None = None,
    replicas: "Replicas | None" = None,
):
    """Trains with complete settings and returns the trainer, whose `journal` holds the results.

    In the end `after_training.store_results` chooses thresholds and writes the model card, also if `resume` has nothing
    to train, unless the network finds nothing: see `nothing_found`.

    For the arguments see `train`. The run folder exists, and the caller has locked it.
    """
    from unet_lowlevel.training.summaries import add_result
    from unet_lowlevel.training.trainer import Trainer

    if replicas:
        replicas.told([settings.to_json(config), data.parts, data.digest])
    config, training, validation = to_train_on(config, data)
    if make_trainer:
        trainer = make_trainer(config, run, training, validation)
    else:
        trainer = Trainer(config, run, training, validation, replicas=replicas)
    if not resume:
        plan = data.planned.to_json() if data.planned else None
        run_folder.create(
            run, config, data.parts["training"], data.parts["validation"], data.digest, implementation, plan
        )
    say(
        f"training on {len(training)} images, validating on {len(validation)}: {config.training.epochs} epochs of "
        f"{trainer.batches.steps_per_epoch} steps into {show_path(run)}"
    )
    batch_size = config.training.batch_size
    if batch_size > len(training):
        repeats = config.training.steps_per_epoch
        step = "every step takes images several times" if repeats else "every epoch is one step, of all of them"
        note(f"--batch-size {batch_size} is more than the {len(training)} images to train on: {step}")
    trainer.fit(resume=resume, on_step=on_step)
    if getattr(trainer, "received", None):  # in the last epoch; there is no time, and --resume goes on here
        return trainer
    if not config.training.overfit_one_batch and not nothing_found(trainer):
        from unet_lowlevel.inference.after_training import store_results

        store_results(run, trainer.journal.counts, data.groups)
    add_result(run, trainer.journal.kept())
    return trainer


def nothing_found(trainer) -> str | None:
    """The sentence to say when the kept network finds none of the foreground in the validation images; else None.

    Then a foreground class that is in these images scores 0. One that is neither there nor predicted scores 1.

    Args:
        trainer: has trained.
    """
    kept, config = trainer.journal.kept(), trainer.config
    if kept["validation_dice"] != kept["validation_iou"]:  # some is found, and no image need be read again
        return None
    there = set().union(*(np.unique(sample.truth).tolist() for sample in trainer.validation))
    foreground = range(1, max(config.model.classes, 2))
    share_absent = sum(k not in there for k in foreground) / len(foreground)
    if share_absent == 1 or kept["validation_dice"] > share_absent:
        return None
    training = config.training
    return (
        f"{trainer.run} is no result, because its network finds none of the foreground in the validation "
        f"images (validation Dice {kept['validation_dice']:.4g} in its {training.keep} epoch, {kept['epoch']}): try "
        f"another --learning-rate than {config.optimizer.learning_rate:g}, mostly a lower one, or more --epochs than "
        f"{training.epochs}, and look at the curves and at the masks."
    )
