"""The same work as benches/shape/main.rs, as it is written by hand with json and dicts.

python3 peer.py jq|typed PAGES OUT: a page on each line of PAGES. Standard library alone.
"""

import csv
import json
import sys
from datetime import datetime, timezone


def pages(name):
    with open(name, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["items"]


def reshape(source, out):
    for items in pages(source):
        for item in items:
            if item["comments"] <= 3:
                continue
            record = {
                "id": item["id"],
                "title": item["title"],
                "author": item["user"]["login"],
                "labels": [label["name"] for label in item["labels"]],
                "rank": item["comments"] * 10 + item["number"] % 7,
            }
            out.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")


BOOLEANS = {"true": True, "false": False, True: True, False: False}


def typed(source, out):
    rows = csv.writer(out)
    rows.writerow(["id", "title", "author", "comments", "score", "locked", "created_at", "due"])
    for items in pages(source):
        for item in items:
            float(item["score"])  # a number, kept as it is spelled
            at = datetime.fromisoformat(item["created_at"]).astimezone(timezone.utc)
            due = datetime.strptime(item["due"], "%Y%m%d")
            rows.writerow(
                [
                    int(item["id"]),
                    str(item["title"]),
                    str(item["user"]["login"]),
                    int(item["comments"]),
                    item["score"],
                    "true" if BOOLEANS[item["locked"]] else "false",
                    at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    due.strftime("%Y-%m-%d"),
                ]
            )


if __name__ == "__main__":
    work, source, target = sys.argv[1:]
    with open(target, "w", encoding="utf-8", newline="") as file:
        {"jq": reshape, "typed": typed}[work](source, file)
