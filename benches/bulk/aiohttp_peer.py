#!/usr/bin/env python3
"""The Python side of the bulk bench: what a careful person would write with aiohttp.

Fetches pages FIRST..LAST of a URL template with a bounded number of workers, parses each with
orjson, and writes its records as they come, as NDJSON or CSV. No order is kept and nothing is
retried: less work than Gleaner does, on purpose, so that the comparison is not flattering.

    python aiohttp_peer.py 'http://127.0.0.1:8080/items?page={page}&per_page=100' \
        --pages 10000 --records data --workers 32 --format ndjson --out out.ndjson

Prints one line of JSON: records, bytes, seconds of wall and of CPU, peak memory.
Needs aiohttp and orjson, with --uvloop also uvloop (benches/bulk/requirements.txt).
"""

import argparse
import asyncio
import csv
import io
import json
import os
import resource
import time

import aiohttp
import orjson


def flatten(record, prefix, row):
    """Nested objects as dotted names, arrays as JSON text, null as nothing."""
    for name, value in record.items():
        if isinstance(value, dict):
            flatten(value, f"{prefix}{name}.", row)
        elif isinstance(value, list):
            row[prefix + name] = orjson.dumps(value).decode()
        elif value is True or value is False:
            row[prefix + name] = "true" if value else "false"
        else:
            row[prefix + name] = value
    return row


class Ndjson:
    def __init__(self, out):
        self.out = out

    def write(self, records):
        dumps = orjson.dumps
        self.out.write(b"\n".join([dumps(record) for record in records]) + b"\n")


class Csv:
    """Columns are those of the first record; the bench's records all have the same fields."""

    def __init__(self, out):
        self.out = out
        self.columns = None

    def write(self, records):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        rows = [flatten(record, "", {}) for record in records]
        if self.columns is None:
            self.columns = list(rows[0])
            writer.writerow(self.columns)
        # Values in the order they came in, which is faster than a DictWriter.
        writer.writerows([row.values() for row in rows])
        self.out.write(text.getvalue().encode())


def at(document, path):
    for step in filter(None, path.split(".")):
        document = document[step]
    return document


async def work(session, pages, arguments, sink, totals):
    for page in pages:
        async with session.get(arguments.url.format(page=page)) as answer:
            answer.raise_for_status()
            body = await answer.read()
        records = at(orjson.loads(body), arguments.records)
        if records:
            sink.write(records)
        totals["records"] += len(records)
        totals["bytes"] += len(body)


async def run(arguments):
    totals = {"records": 0, "bytes": 0}
    # One iterator for all workers: each takes the next page when it is free.
    pages = iter(range(arguments.first, arguments.first + arguments.pages))
    connector = aiohttp.TCPConnector(limit=arguments.workers, keepalive_timeout=60)
    with open(arguments.out, "wb", buffering=1 << 20) as out:
        sink = {"ndjson": Ndjson, "csv": Csv}[arguments.format](out)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=True) as session:
            await asyncio.gather(
                *(work(session, pages, arguments, sink, totals) for _ in range(arguments.workers))
            )
        # As the others do: what was harvested is on the disk when the program ends.
        out.flush()
        os.fsync(out.fileno())
    return totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="with {page} in it")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--pages", type=int, required=True)
    parser.add_argument("--records", default="", help="path of the array in a page: data.items")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--format", choices=["ndjson", "csv"], default="ndjson")
    parser.add_argument("--uvloop", action="store_true", help="with another event loop than Python's")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    began = time.perf_counter()
    if arguments.uvloop:
        import uvloop

        totals = uvloop.run(run(arguments))
    else:
        totals = asyncio.run(run(arguments))
    wall = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "records": totals["records"],
                "bytes": totals["bytes"],
                "wall_s": round(wall, 3),
                "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
                "peak_mb": round(usage.ru_maxrss / 1024, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
