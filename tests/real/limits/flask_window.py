"""A paged listing behind Flask-Limiter's moving window, kept in memory.

python flask_window.py PORT LOG RATE delta-seconds|http-date     (rate as it writes it: 20 per 2 second)
"""

import sys

from flask import Flask, jsonify, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from listing import page, serve

port, log, rate, retry_after = sys.argv[1:]
app = Flask(__name__)
Limiter(
    get_remote_address,
    app=app,
    default_limits=[rate],
    storage_uri="memory://",
    strategy="moving-window",
    headers_enabled=True,
    retry_after=retry_after,
)


@app.get("/items")
def items():
    asked = request.args
    return jsonify(page(int(asked["page"]), int(asked["per_page"])))


serve(app, int(port), log)
