"""A receiver of notifications: a web server that stores what is posted to it."""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.samples import HANGS_SECONDS


class Receiver:
    """Listens on a free port; `address` is its URL for apprise.

    Args:
        behaviour: "takes" (200), "refuses" (500), "hangs" (no response) or "trickles" (a response
            that arrives byte by byte and never ends).
    """

    def __init__(self, behaviour="takes"):
        self.messages = queue.Queue()
        self.closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.messages.put((self.path, json.loads(body)))
                if behaviour == "hangs":
                    receiver.closing.wait()
                    return
                self.send_response(500 if behaviour == "refuses" else 200)
                self.end_headers()
                while behaviour == "trickles" and not receiver.closing.wait(0.05):
                    try:
                        self.wfile.write(b".")
                    except OSError:
                        return

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"json://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def next(self):
        """Title and text of the next message."""
        _, message = self.messages.get(timeout=HANGS_SECONDS)
        return message["title"], message["message"]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
