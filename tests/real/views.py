"""Executes the views of docs/outputs.md, as they stand there, in a project, and prints what they give.

usage: views.py OUTPUTS.MD    in the project; a line of JSON for each view
"""

import json
import re
import sys

import duckdb

with open(sys.argv[1], encoding="utf-8") as page:
    (block,) = re.findall(r"```sql\n(.*?)```", page.read(), re.DOTALL)
for line in block.splitlines():
    if not line.startswith("CREATE VIEW"):
        continue
    name = line.split()[2]
    # Its extension for SQLite comes from the network.
    if "sqlite_scan" in line:
        print(json.dumps({"skipped": line}))
        continue
    duckdb.sql(f"DROP VIEW IF EXISTS {name}")
    duckdb.sql(line)
    read = duckdb.sql(f"FROM {name}")
    # Instants as text, for Python has no zones of its own.
    rows = duckdb.sql(f"SELECT * REPLACE (CAST(\"at\" AS VARCHAR) AS \"at\") FROM {name} ORDER BY id").fetchall()
    print(json.dumps({"columns": read.columns, "types": [str(kind) for kind in read.types], "rows": rows}))
