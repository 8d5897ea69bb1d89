"""Prediction of a large collection by many processes: Ray hands out the images, each process holds the network."""

import collections
import contextlib
import functools
import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from unet_lowlevel.data.formats.volumes import Slice
from unet_lowlevel.data.packed import Part, Record, read_index
from unet_lowlevel.errors import UserError, reason
from unet_lowlevel.inference.folders import predict_images
from unet_lowlevel.inference.images import units
from unet_lowlevel.inference.predictor import Predictor
from unet_lowlevel.inference.results import Outputs, Wanted
from unet_lowlevel.inference.unfinished import Before, Note, lines_of
from unet_lowlevel.machine import images_at_once, start_tensorflow
from unet_lowlevel.ray_session import failed, ray_session
from unet_lowlevel.terminal import Progress, note
from unet_lowlevel.training.interruption import StopSignals

# How often a worker may be lost with an image in its hands before that is given up.
LOSSES = 3
# The most images or volumes, and bytes of their files, that a worker is handed at a time: it reads ahead and writes
# behind within a handful only, and reports when that is done.
HANDFUL, BYTES = 256, 2**24
# Seconds until a signal is noticed.
MOMENT = 0.2

Images = dict[str, Path | Slice | Part]


def predict_by_ray(
    images: Images,
    outputs: Outputs,
    wanted: Wanted,
    signals: StopSignals,
    progress: Progress,
    *,
    workers: int,
    load: Callable[[], Predictor],
) -> None:
    """Predicts images by actors of Ray Data, which read the images and write the files; see `folders.Workers`.

    Ray starts a lost actor again, and gives it, or another one, what the lost one had.

    Args:
        images: {stem: image}.
        outputs: is told how many were written, and which cannot be used.
        wanted: see `Outputs`.
        signals: once one is received, the actors end.
        progress: wraps the images that are done.
        workers: number of actors; 0: one for each machine.
        load: makes the network, in each actor.

    Raises:
        UserError: when files cannot be written, or actors cannot work.
    """
    with ray_session(workers) as share:
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        items = [{"images": as_json(handful)} for handful in handfuls(units(images), share.workers)]
        begun = (outputs.note.path, outputs.note.settings)
        make = functools.partial(Worker, load, outputs.folder, wanted, begun, share.cpus, len(images) // share.workers)
        reports = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            ByRay,
            fn_constructor_args=[make, os.getcwd()],
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=share.workers),
            # Half of them, so that a worker whose machine is lost finds room on another one.
            num_cpus=share.cpus // 2 or 0.5,
            num_gpus=share.gpus,
        )
        stems = told(until_stopped(reports.iter_rows, signals), outputs)
        collections.deque(progress(stems, len(images)), maxlen=0)


def handfuls(items: Sequence[Images], workers: int) -> list[list[Images]]:
    """The images and volumes in lists, so small that workers end together, and that they report now and then."""
    most = min(max(len(items) // (8 * workers), 1), HANDFUL)
    found: list[list[Images]] = []
    room = 0
    for images in items:
        size = sum(dict(map(place_and_bytes, images.values())).values())
        if not found or len(found[-1]) == most or size > room:
            found.append([])
            room = BYTES
        found[-1].append(images)
        room -= size
    return found


def place_and_bytes(image: Path | Slice | Part) -> tuple[str, int]:
    """Where an image is, and the bytes that are there; slices of a volume are in one place."""
    if isinstance(image, Part):
        return str(image), image.record.length
    path = image.path if isinstance(image, Slice) else image
    return str(path), path.stat().st_size if path.is_file() else 0


def until_stopped(rows: Callable[[], Iterable[dict]], signals: StopSignals) -> Iterator[dict]:
    """The reports in the rows, until a signal is received."""
    found: queue.Queue = queue.Queue()

    def take() -> None:
        try:
            for row in rows():
                found.put(json.loads(row["report"]))
            found.put(None)
        except BaseException as error:
            found.put(error)

    threading.Thread(target=take, daemon=True).start()
    while not signals.received:
        with contextlib.suppress(queue.Empty):
            report = found.get(timeout=MOMENT)
            if report is None:
                return
            if isinstance(report, BaseException):
                raise failed(report, "mend that and add --resume") from report
            yield report


def told(reports: Iterable[dict], outputs: Outputs) -> Iterator[str]:
    """Tells `outputs` what workers report; gives the stems of their images.

    Raises:
        UserError: when one reports that it cannot go on.
    """
    for report in reports:
        outputs.written += report["written"]
        outputs.failures += report["failures"]
        outputs.foreground += report["foreground"]
        outputs.lost += report["in_no_object"]
        if report["lost"]:
            note("a worker was lost; what it had is done again")
        if report["stopped"]:
            raise UserError(report["stopped"])
        yield from report["stems"]


def as_json(handful: Sequence[Images]) -> str:
    """A handful of images and volumes as a text, for `from_json`."""
    return json.dumps([[[stem, *parts(image)] for stem, image in images.items()] for images in handful])


def parts(image: Path | Slice | Part) -> list:
    if isinstance(image, Part):
        return [image.record.packed.folder, image.record.stem]
    return [str(image.path), image.index, image.series] if isinstance(image, Slice) else [str(image)]


def from_json(text: str) -> list[Images]:
    """What `as_json` has made a text of."""
    return [{stem: from_parts(*image) for stem, *image in images} for images in json.loads(text)]


def from_parts(place: str, *of) -> Path | Slice | Part:
    """What `parts` has taken apart."""
    if not of:
        return Path(place)
    return Slice(Path(place), *of) if len(of) > 1 else Part(records_of(place)[of[0]], "image")


@functools.lru_cache(maxsize=8)
def records_of(folder: str) -> dict[str, Record]:
    """{stem: record} of packed data, whose index is read once."""
    return {record.stem: record for record in read_index(folder)[1]}


class ByRay:
    """A worker as Ray Data calls it."""

    def __init__(self, make: Callable[..., "Worker"], folder: str):
        """Makes the worker in `folder`, to which the paths of images are relative."""
        import ray

        self.worker, self.error = None, ""
        try:
            os.chdir(folder)
            self.worker = make(ray.get_runtime_context().get_actor_id()[:12])
        except (UserError, OSError) as error:
            self.error = f"--cluster ray: a worker cannot begin ({reason(error)}): mend that and add --resume."

    def __call__(self, batch: dict) -> dict[str, list[str]]:
        """{report: [JSON, ...]} of {images: [as_json]}."""
        if self.worker is None:
            return {"report": [json.dumps(report_of({}, stopped=self.error))]}
        handful = [images for text in batch["images"] for images in from_json(text)]
        return {"report": [json.dumps(report) for report in self.worker.predict(handful)]}


class Worker:
    """Holds the network, and predicts a handful of images at a time.

    What it begins stands in its note. After a loss the worker that takes its place has the same name, and so the same
    note: files that are there are whole, and stay. Other images are taken up one by one, so that one that ends every
    worker shows itself.
    """

    def __init__(
        self,
        load: Callable[[], Predictor],
        folder: Path,
        wanted: Wanted,
        begun: tuple[Path, Mapping[str, object]],
        threads: int,
        count: int,
        name: str,
    ):
        """Loads the network.

        Args:
            load: makes the predictor.
            folder: of the masks.
            wanted: see `Outputs`.
            begun: the note of the prediction, with which that of the worker begins, and its settings.
            threads: that it may use.
            count: number of images it will be handed, about.
            name: of the worker.
        """
        self.folder, self.wanted = folder, wanted
        note, settings = begun
        path = note.with_name(f"{note.stem}_{name}{note.suffix}")
        lines = list(lines_of(path)) if path.is_file() else []
        self.begun = collections.Counter(stem for line in lines for stem in line.get("begun", []))
        self.note = Note(path, settings)
        at_once = images_at_once(count, threads)
        start_tensorflow(at_once, threads)
        self.predictor = load()
        self.predictor.at_once = at_once

    def predict(self, handful: list[Images]) -> list[dict]:
        """Predicts images and volumes, and reports of them; see `report_of`."""
        lost = any(self.begun[next(iter(images))] for images in handful)
        groups = [[images] for images in handful] if lost else [handful]
        reports = [
            self.predict_group({stem: image for images in group for stem, image in images.items()}) for group in groups
        ]
        reports[0]["lost"] = lost
        return reports

    def predict_group(self, images: Images) -> dict:
        """Predicts images at the same time."""
        first = next(iter(images))
        outputs = Outputs(images, self.folder, self.wanted, Written(self.folder, self.note))
        outputs.note = self.note
        rest = {stem: image for stem, image in images.items() if stem not in outputs.done}
        if rest and self.begun[first] >= LOSSES:
            source = images[first]
            failure = (
                f"{source} has ended {LOSSES} workers that predicted it: predict it on a machine with more memory."
            )
            return report_of(images, len(outputs.done), [failure])
        if rest:
            self.note.add(begun=list(rest))
            self.begun.update(list(rest))
        stopped = ""
        try:
            predict_images(self.predictor, rest.items(), outputs, StopSignals())
        except UserError as error:
            stopped = str(error)
        report = report_of(images, outputs.written + len(outputs.done), outputs.failures, stopped)
        return report | {"foreground": outputs.foreground, "in_no_object": outputs.lost}


class Written(Before):
    """What a worker has written that was lost since: all that is there, because files are written whole."""

    def __init__(self, folder: Path, note: Note):
        super().__init__(folder)
        self.note = note

    def finished(self, name: str) -> bool:
        """Whether a file is there; then it gets into the note, which the lost worker may not have done."""
        self.note.wrote(name)
        return (self.folder / name).is_file()


def report_of(images: Images, written: int = 0, failures: Sequence[str] = (), stopped: str = "") -> dict:
    """What a worker reports: stems, how many images are written, sentences on others, why it cannot go on."""
    report = {"stems": list(images), "written": written, "failures": list(failures), "stopped": stopped}
    return report | {"lost": False, "foreground": 0, "in_no_object": 0}
