"""Pins between two processes: what gpiozero drives in the box arrives in the car, and the other way round.

One Unix socket of whole messages (SEQPACKET), three bytes each: a word, a pin (BCM number), a level.

=========  ==============  =====================================================
direction  word            meaning
=========  ==============  =====================================================
to car     ``d`` drive     the box drives this pin high (1) or low (0)
to car     ``r`` release   the box lets go of this pin; the level is 0
to box     ``i`` input     the car puts this level on the pin
to box     ``k`` known     all levels so far were told (sent once, when connected)
=========  ==============  =====================================================

``PinBoard`` is the car's end and listens; ``SocketFactory`` is the box's end, a pin factory for gpiozero. When the box
dies the socket closes and every pin it drove is released, as a kernel does it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, RLock, Thread, current_thread
from typing import Any, Final

from gpiozero.pins.mock import MockFactory, MockPin

SOCKET_VARIABLE: Final = "AMIBOX_PIN_SOCKET"
"""Environment variable with the socket's path, where ``SocketFactory`` is built by name."""

_MESSAGE: Final = struct.Struct("!cBB")
_PINS: Final = 28
_TIMEOUT_S: Final = 5.0


class PinBoard:
    """The car's end. One box at a time; a box that dies or hangs lets go of all its pins, and another may come.

    It listens from the start, and serves after ``start``. ``counts`` holds refused messages. Raises OSError if ``path``
    can't be listened on.
    """

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._path = path
        self._on_output: Callable[[int, bool | None], None] = lambda _pin, _level: None
        self._lock = Lock()
        self._inputs: dict[int, bool] = {}
        self._outputs: dict[int, bool] = {}
        self._box: socket.socket | None = None
        self._closing = Event()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = Thread(target=self._serve, name="pin board", daemon=True)

    def start(self, on_output: Callable[[int, bool | None], None]) -> None:
        """Serve boxes. ``on_output(pin, level)`` is called by the board's thread.

        The level is high, low, or None where nobody drives the pin any more.
        """
        self._on_output = on_output
        self._thread.start()

    def set_input(self, pin: int, level: bool) -> None:  # noqa: FBT001 -- a level is the value itself, not an option
        """Put a level on one of the box's inputs. Remembered for a box that comes later."""
        with self._lock:
            if self._inputs.get(pin) != level:
                self._inputs[pin] = level
                self._tell(b"i", pin, level=level)

    def output(self, pin: int) -> bool | None:
        """Return the level that the box drives a pin to, or None."""
        with self._lock:
            return self._outputs.get(pin)

    def close(self) -> None:
        """Disconnect the box and stop listening. Safe to call twice."""
        with self._lock:
            self._closing.set()
            for end in (self._listener, self._box):
                if end is not None:
                    with suppress(OSError):  # already gone
                        end.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join(_TIMEOUT_S)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                box, _ = self._listener.accept()
            except OSError:
                return  # closed
            with box:
                self._greet(box)
                self._listen(box)
                with self._lock:
                    self._box = None
                    released = list(self._outputs)
                    self._outputs.clear()
            for pin in released:
                self._on_output(pin, None)

    def _greet(self, box: socket.socket) -> None:
        with self._lock:
            if self._closing.is_set():
                box.shutdown(socket.SHUT_RDWR)
                return
            self._box = box
            for pin, level in self._inputs.items():
                self._tell(b"i", pin, level=level)
            self._tell(b"k", 0, level=False)

    def _tell(self, word: bytes, pin: int, *, level: bool) -> None:
        """Send to the box, if there is one. One that doesn't read is disconnected: the car never waits for it."""
        if self._box is None:
            return
        try:
            self._box.send(_MESSAGE.pack(word, pin, level), socket.MSG_DONTWAIT)
        except OSError:
            self.counts["box_not_reading"] += 1
            with suppress(OSError):  # already gone
                self._box.shutdown(socket.SHUT_RDWR)

    def _listen(self, box: socket.socket) -> None:
        while True:
            try:
                message = box.recv(64)
            except OSError:
                return
            if not message:
                return
            if len(message) != _MESSAGE.size or message[0:1] not in b"dr" or message[1] >= _PINS or message[2] > 1:
                self.counts["bad_message"] += 1
                continue
            word, pin, level = _MESSAGE.unpack(message)
            driven = bool(level) if word == b"d" else None
            with self._lock:
                if driven is None:
                    self._outputs.pop(pin, None)
                else:
                    self._outputs[pin] = driven
            self._on_output(pin, driven)


class SocketPin(MockPin):  # type: ignore[misc]  # gpiozero has no type information
    """A pin of the box whose other end is in the car. Without a car every use raises ConnectionError."""

    def __init__(self, factory: SocketFactory, info: Any) -> None:
        super().__init__(factory, info)
        self._gpio = int(info.name.removeprefix("GPIO"))

    def _set_state(self, value: float) -> None:
        super()._set_state(value)
        self.factory.tell(b"d", self._gpio, level=bool(value))

    def _get_state(self) -> bool:
        self.factory.check()
        return bool(super()._get_state())

    def _set_function(self, value: str) -> None:
        if value == "input" and self._function == "output":
            with suppress(ConnectionError):  # nobody is there: released already
                self.factory.tell(b"r", self._gpio, level=False)
        super()._set_function(value)

    def _set_pull(self, value: str) -> None:
        super()._set_pull(value)
        self.follow()

    def _change_state(self, value: bool) -> bool:  # noqa: FBT001 -- the parent's signature
        changed = bool(super()._change_state(value))
        del self.states[:-1]  # the parent keeps every change for ever
        return changed

    def follow(self) -> None:
        """Take on the level that the car puts on this pin, if it is an input and the car does."""
        with self.factory.levels_lock:
            level = self.factory.levels.get(self._gpio)
            if self._function == "input" and level is not None:
                if level:
                    self.drive_high()
                else:
                    self.drive_low()


class SocketFactory(MockFactory):  # type: ignore[misc]  # gpiozero has no type information
    """The box's end: a pin factory whose pins are wired to a ``PinBoard``.

    ``path`` defaults to the environment variable ``AMIBOX_PIN_SOCKET``. Raises ConnectionError if no car listens there.
    Claiming a pin after the car went away connects again.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(pin_class=SocketPin)
        given = path or os.environ.get(SOCKET_VARIABLE)
        if given is None:
            raise ConnectionError(f"no socket for the pins: set {SOCKET_VARIABLE} to the car's")
        self._path = str(given)
        self.levels: dict[int, bool] = {}
        """What the car put on the pins. Read and written under ``levels_lock``, so that no old level comes last."""
        self.levels_lock = RLock()
        self._car: socket.socket | None = None
        self._known = Event()
        self._connect()

    def pin(self, name: Any, pin_class: type[MockPin] | None = None, **kwargs: Any) -> Any:
        """Return the pin, connecting again where the car went away."""
        if self._car is None:
            self._connect()
        return super().pin(name, pin_class, **kwargs)

    def check(self) -> None:
        """Raise ConnectionError if the car is gone."""
        if self._car is None:
            raise ConnectionError(f"the car at {self._path} is gone")

    def tell(self, word: bytes, gpio: int, *, level: bool) -> None:
        """Send one message. Raises ConnectionError if the car is gone."""
        car = self._car
        try:
            if car is None:
                raise BrokenPipeError("not connected")
            car.send(_MESSAGE.pack(word, gpio, level), socket.MSG_DONTWAIT)
        except OSError as error:
            self._hang_up()
            raise ConnectionError(f"the car at {self._path} is gone: {error}") from error

    def close(self) -> None:
        """Release all pins and disconnect."""
        with suppress(ConnectionError):  # closing is what was wanted
            super().close()
        self._hang_up()

    def _hang_up(self) -> None:
        car, self._car = self._car, None
        if car is not None:
            with suppress(OSError):  # already gone
                car.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        self.levels.clear()
        self._known.clear()
        car = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            car.connect(self._path)
        except OSError as error:
            car.close()
            raise ConnectionError(f"no car listens at {self._path}: {error}") from error
        self._car = car
        Thread(target=self._read, args=(car,), name="pins", daemon=True).start()
        if not self._known.wait(_TIMEOUT_S):
            self.close()
            raise ConnectionError(f"the car at {self._path} doesn't tell its levels")

    def _read(self, car: socket.socket) -> None:
        with car:
            while True:
                try:
                    message = car.recv(64)
                except OSError:
                    break
                if len(message) != _MESSAGE.size:
                    break  # closed, or no pin board
                word, gpio, level = _MESSAGE.unpack(message)
                if word == b"k":
                    self._known.set()
                    continue
                with self.levels_lock:
                    self.levels[gpio] = bool(level)
                    for pin in list(self.pins.values()):
                        if pin._gpio == gpio:  # noqa: SLF001 -- both classes are this file's
                            pin.follow()
            if self._car is car:
                self._car = None
