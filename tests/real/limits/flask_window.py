"""A paged listing behind Flask-Limiter's moving window, kept in memory.

python flask_window.py PORT LOG RATE delta-seconds|http-date told|untold    (rate as it writes it: 20 per 2 second)

Untold, what is left has names that nobody knows, so that it is no warning.
"""

import sys

from flask import Flask, jsonify, request
from flask_limiter import HeaderNames, Limiter
from flask_limiter.util import get_remote_address

from listing import page, serve

port, log, rate, retry_after, tells = sys.argv[1:]
untold = {
    HeaderNames.LIMIT: "X-A",
    HeaderNames.REMAINING: "X-B",
    HeaderNames.RESET: "X-C",
}
app = Flask(__name__)
Limiter(
    get_remote_address,
    app=app,
    default_limits=[rate],
    storage_uri="memory://",
    strategy="moving-window",
    headers_enabled=True,
    retry_after=retry_after,
    header_name_mapping=untold if tells == "untold" else {},
)


@app.get("/items")
def items():
    asked = request.args
    return jsonify(page(int(asked["page"]), int(asked["per_page"])))


serve(app, int(port), log)
