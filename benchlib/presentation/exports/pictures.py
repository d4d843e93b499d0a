"""Figures drawn as pictures by one Chromium, which is started at the first picture and kept."""

import asyncio
import atexit
import json
import logging
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import TimeoutError as TooSlow
from concurrent.futures import wait
from typing import Any, Final

import plotly.graph_objects as go

from benchlib.domain.errors import BenchlibError

_LOG: Final = logging.getLogger(__name__)

_SECONDS: Final = 60.0
"""Longest wait for the browser: to start, to draw a picture, to close."""


class NoPictures(BenchlibError):
    """Pictures cannot be drawn on this machine."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "SVG, PDF and PNG need Chrome or Chromium on the dashboard's machine (and kaleido: "
            "pip install 'benchlib[export]'). HTML and all tables work without, and so does the "
            "camera button of a chart." + (f" The cause: {reason}" if reason else "")
        )


def pictures_work() -> bool:
    """Whether kaleido and a Chromium are installed; does not start them."""
    try:
        from choreographer.browsers.chromium import Chromium
    except ImportError:
        return False
    return bool(Chromium.find_browser(skip_local=False))


class Renderer:
    """One Chromium in a thread of its own, for all threads of the process."""

    def __init__(self) -> None:
        # One picture at a time, and never two browsers.
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._kaleido: Any = None

    def draw(self, figure: go.Figure, options: Mapping[str, Any]) -> bytes:
        """Draw a figure; starts the browser if there is none, and again if it has died.

        Raises:
            NoPictures: There is no browser, or it does not draw.
        """
        given = json.loads(figure.to_json())
        with self._lock:
            try:
                if self._kaleido is not None:
                    return self._draw(given, options)
            except Exception as problem:
                _LOG.warning("Restarting the browser that draws pictures: %r", problem)
                self._stop()
                if isinstance(problem, TooSlow):
                    raise NoPictures("the browser did not answer in time.") from problem
            try:
                self._start()
                return self._draw(given, options)
            except Exception as problem:
                self._stop()
                raise NoPictures(str(problem) or type(problem).__name__) from problem

    def close(self) -> None:
        """End the browser; the next picture starts another one."""
        with self._lock:
            self._stop()

    def _draw(self, given: dict[str, Any], options: Mapping[str, Any]) -> bytes:
        drawn = self._wait(self._kaleido.calc_fig(given, opts=dict(options)))
        return bytes(drawn)

    def _start(self) -> None:
        if not pictures_work():
            raise NoPictures
        from kaleido import Kaleido

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="benchlib-pictures", daemon=True
        )
        self._thread.start()

        async def opened() -> Any:
            browser = Kaleido(n=1, mathjax=False, timeout=_SECONDS)
            await browser.open()
            return browser

        self._kaleido = self._wait(opened())
        # After opening: at exit, the browser then closes before its temporary folders vanish.
        atexit.register(self.close)

    def _stop(self) -> None:
        loop, thread, browser = self._loop, self._thread, self._kaleido
        self._loop = self._thread = self._kaleido = None
        if loop is None or thread is None:
            return
        atexit.unregister(self.close)
        if browser is not None:
            closing = asyncio.run_coroutine_threadsafe(browser.close(), loop)
            wait([closing], _SECONDS)
            problem = closing.exception() if closing.done() else TooSlow()
            if problem is not None:
                _LOG.warning("The browser that draws pictures did not close cleanly: %r", problem)
        asyncio.run_coroutine_threadsafe(_finish(), loop).result(_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_SECONDS)
        loop.close()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None:
            raise NoPictures
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)


RENDERER: Final = Renderer()


async def _finish() -> None:
    """Cancel what is still waiting in the loop."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
