"""Ctrl-C and the system's request to end: the training saves its state first."""

import signal
import threading
from types import FrameType


class Stopped(Exception):
    """A training that was asked to end and has saved its state; `signal` says by what."""

    def __init__(self, received: signal.Signals, step: int):
        super().__init__(f"{received.name} after step {step}")
        self.signal, self.step = received, step


class StopSignals:
    """While entered, SIGINT and SIGTERM are noted in `received`; the second one acts as it always does."""

    def __init__(self):
        self.received: signal.Signals | None = None
        self.previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # no other can receive signals
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
