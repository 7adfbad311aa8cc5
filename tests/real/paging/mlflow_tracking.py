"""MLflow's tracking server with some experiments.

python mlflow_tracking.py PORT FOLDER COUNT
"""

import os
import sys
from pathlib import Path

from quiet import serve

port, folder, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder / 'mlflow.db'}"
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")

from mlflow.server import app  # noqa: E402
from mlflow.server.handlers import _get_tracking_store  # noqa: E402

store = _get_tracking_store()
for at in range(count):
    store.create_experiment(f"experiment {at:03}", tags=[])

serve(app, port)
