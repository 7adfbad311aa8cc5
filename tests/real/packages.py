"""Validates data packages by the `frictionless` package: a line for each that is not valid.

usage: packages.py DATAPACKAGE…
"""

import json
import os
import sys

import frictionless
import pyarrow


def unpacked(place):
    """The package, with files that frictionless cannot unpack beside themselves, unpacked."""
    with open(place, encoding="utf-8") as text:
        package = json.load(text)
    for resource in package["resources"]:
        if resource.get("compression") != "zst" and resource["format"] != "parquet":
            continue
        # What frictionless does not count.
        assert os.path.getsize(resource["path"]) == resource.pop("bytes")
        if resource["format"] == "parquet":
            continue
        with pyarrow.CompressedInputStream(pyarrow.OSFile(resource["path"]), "zstd") as packed:
            whole = packed.read()
        resource["path"] = resource["path"].removesuffix(".zst")
        del resource["compression"], resource["hash"]
        with open(resource["path"], "wb") as file:
            file.write(whole)
    return package


wrong = 0
for place in sys.argv[1:]:
    os.chdir(os.path.dirname(place))
    report = frictionless.Package.from_descriptor(unpacked(os.path.basename(place))).validate()
    errors = list(report.errors) + [e for task in report.tasks for e in task.errors]
    for error in errors[:5]:
        print(f"{place}: {error.type}: {error.message}")
    wrong += not report.valid
    print(f"{place}: {len(report.tasks)} valid" if report.valid else f"{place}: NOT VALID")
sys.exit(wrong > 0)
