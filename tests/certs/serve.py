"""Answers over TLS with a certificate that nobody vouches for; says its port on standard output."""

import pathlib
import socketserver
import ssl

here = pathlib.Path(__file__).parent
server = socketserver.TCPServer(("127.0.0.1", 0), socketserver.StreamRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(here / "localhost.pem", here / "localhost.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
