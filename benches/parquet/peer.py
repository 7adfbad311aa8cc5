"""What `benches/parquet` is measured beside: pyarrow reads lines of JSON and writes Parquet.

    peer.py write LINES OUT     the columns that Gleaner finds, zstd at the same level
    peer.py check OURS THEIRS   whether both files hold the same rows; prints their rows and row groups

The types are told beforehand, and its parser of JSON and its writer are C++: nothing here is slow because
it is Python. Lines are read in blocks, so that memory is bounded for it too.
"""

import sys

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

BLOCK = 64 << 20

UTC = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("title", pa.string()),
        ("state", pa.string()),
        ("user", pa.struct([("login", pa.string()), ("id", pa.int64())])),
        ("score", pa.float64()),
        ("comments", pa.int64()),
        ("created_at", pa.timestamp("us")),
        ("locked", pa.bool_()),
        ("note", pa.string()),
    ]
)


def blocks(path):
    """The lines of a file, so many bytes at a time."""
    with open(path, "rb") as file:
        rest = b""
        while block := file.read(BLOCK):
            end = block.rfind(b"\n") + 1
            yield rest + block[:end]
            rest = block[end:]
        if rest:
            yield rest


def flat(table):
    """One column for each field of `user`, and instants in UTC."""
    table = table.flatten()
    at = table.schema.get_field_index("created_at")
    return table.set_column(at, "created_at", table["created_at"].cast(UTC))


def write(lines, out):
    parse = pa.json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="error")
    read = pa.json.ReadOptions(block_size=4 << 20)
    writer = None
    for block in blocks(lines):
        table = flat(pa.json.read_json(pa.BufferReader(block), read, parse))
        if writer is None:
            writer = pq.ParquetWriter(out, table.schema, compression="zstd", compression_level=3)
        writer.write_table(table)
    writer.close()


def check(ours, theirs):
    files = [pq.ParquetFile(path) for path in (ours, theirs)]
    mine, other = (file.schema_arrow for file in files)
    assert mine.remove_metadata().equals(other), f"{mine}\n{other}"
    for name in mine.names:
        # A column at a time: all of them are more than a machine may have room for.
        a, b = (file.read(columns=[name])[0] for file in files)
        assert a.equals(b), f"{name} differs"
    print(*(n for file in files for n in (file.metadata.num_rows, file.metadata.num_row_groups)))


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
