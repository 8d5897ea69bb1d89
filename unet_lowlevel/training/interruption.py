"""Ctrl-C and SIGTERM: the training saves its state before it ends, all else tidies up."""

import signal
import threading
from types import FrameType

# Seconds until a signal that has met an import is tried again.
MOMENT = 0.02


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


class Interruptions:
    """Inside the context SIGINT and SIGTERM raise `KeyboardInterrupt`; `received` is the last of them.

    Within an import they do so as soon as it is done: it would make another exception of it, or lose it.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self.previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interruptions":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as of what runs in the background
                    self.previous[number] = signal.signal(number, self.interrupt)
        return self

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if within_import(frame) and hasattr(signal, "setitimer"):  # not on Windows
            alarm = signal.signal(signal.SIGALRM, lambda _, frame: self.interrupt(number, frame))
            self.previous.setdefault(signal.SIGALRM, alarm)
            signal.setitimer(signal.ITIMER_REAL, MOMENT)
        else:
            raise KeyboardInterrupt

    def __exit__(self, *_) -> None:
        if len(self.previous) > 2:  # the alarm may still be set
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def within_import(frame: FrameType | None) -> bool:
    """Whether a frame belongs to an import."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
