"""A small web app that knows nothing of OpenTelemetry."""

import sys

from flask import Flask
from werkzeug.serving import make_server

app = Flask(__name__)


@app.get("/orders")
def orders():
    return "taken"


@app.get("/healthz")
def healthz():
    return "ok"


server = make_server("127.0.0.1", 0, app)
print(f"listening on 127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
