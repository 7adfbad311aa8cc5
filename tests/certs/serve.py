"""Answers over TLS with a certificate for localhost and 127.0.0.1 that nobody vouches for; says its
port on standard output. The address to listen on may be given."""

import pathlib
import socketserver
import ssl
import sys

here = pathlib.Path(__file__).parent
address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
server = socketserver.TCPServer((address, 0), socketserver.StreamRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(here / "localhost.pem", here / "localhost.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
