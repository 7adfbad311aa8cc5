"""Serves a WSGI program on loopback, many requests at once and without a word."""

from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def serve(program, port):
    make_server("127.0.0.1", port, program, Threads, Quiet).serve_forever()
