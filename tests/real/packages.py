"""Validates data packages by the `frictionless` package: a line for each that is not valid.

usage: packages.py DATAPACKAGE…
"""

import os
import sys

import frictionless

wrong = 0
for place in sys.argv[1:]:
    os.chdir(os.path.dirname(place))
    report = frictionless.validate(os.path.basename(place))
    errors = list(report.errors) + [e for task in report.tasks for e in task.errors]
    for error in errors[:5]:
        print(f"{place}: {error.type}: {error.message}")
    wrong += not report.valid
    print(f"{place}: {len(report.tasks)} valid" if report.valid else f"{place}: NOT VALID")
sys.exit(wrong > 0)
