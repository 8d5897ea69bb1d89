"""Ctrl-C and SIGTERM: the training saves its state before it ends."""

import signal
import threading
from types import FrameType


class Stopped(Exception):
    """Raised when a training ends after `signal`, with its state saved."""

    def __init__(self, received: signal.Signals, step: int):
        super().__init__(f"{received.name} after step {step}")
        self.signal, self.step = received, step


class StopSignals:
    """Inside the context the first SIGINT or SIGTERM is noted in `received`; a second one acts as usual."""

    def __init__(self):
        self.received: signal.Signals | None = None
        self.previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # only this thread receives signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self.note)
        return self

    def note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self.restore()

    def restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def __exit__(self, *_) -> None:
        self.restore()
