"""What the Python servers share: the listing, the log of requests, and one thread that serves."""

import socketserver
import time
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

TOTAL = 350


def page(number, size):
    """One page of the listing."""
    start = (number - 1) * size
    items = [
        {"id": n, "name": f"item {n}"} for n in range(start, min(start + size, TOTAL))
    ]
    return {"total": TOTAL, "items": items}


def logged(app, path):
    """`app`, with a line a request in the file at `path`.

    Seconds since 1970 at its arrival, status, Retry-After or "-".
    """
    log = open(path, "a", buffering=1)

    def inner(environ, start_response):
        at = time.time()

        def start(status, headers, exc_info=None):
            told = {name.lower(): value for name, value in headers}
            retry = told.get("retry-after", "-").replace(" ", "_")
            log.write(f"{at} {status.split()[0]} {retry}\n")
            return start_response(status, headers, exc_info)

        return app(environ, start)

    return inner


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


class Server(WSGIServer):
    # With the usual five, a burst of connections waits for the kernel to try again.
    request_queue_size = 128

    def server_bind(self):
        # Not HTTPServer's: that asks a name server who this machine is.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address
        self.setup_environ()


def serve(app, port, log):
    """Serves `app` on loopback, one request after the other."""
    with Server(("127.0.0.1", port), Quiet) as server:
        server.set_app(logged(app, log))
        server.serve_forever()
