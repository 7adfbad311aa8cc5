"""A nested Parquet file read by pyarrow, pandas, polars and DuckDB, and what pyarrow finds in its footer.

    nested.py FILE BODY     FILE was written from the records of BODY, a JSON array

Types are named here by hand; values are worked out from the body: what a record lacks is null.
"""

import datetime
import json
import sys

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq

UTC = pa.timestamp("us", tz="UTC")
LABEL = pa.struct([("name", pa.string()), ("color", pa.string()), ("uses", pa.int64())])
TYPES = {
    "id": pa.int64(),
    "user": pa.struct(
        [
            ("login", pa.string()),
            ("id", pa.int64()),
            ("since", UTC),
            ("plan", pa.struct([("name", pa.string()), ("price", pa.float64())])),
        ]
    ),
    "labels": pa.list_(pa.field("element", LABEL)),
    "grid": pa.list_(pa.field("element", pa.list_(pa.field("element", pa.int64())))),
    # An object beside a number, and an object that never has a member.
    "mixed": pa.string(),
    "hollow": pa.string(),
    "odd.name": pa.struct([("a.b", pa.bool_()), ('"', pa.string())]),
}


def shaped(kind, value):
    """The value of a type, as pyarrow hands it over."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: shaped(field.type, value.get(field.name)) for field in kind}
    if pa.types.is_list(kind):
        return [shaped(kind.value_type, one) for one in value]
    if pa.types.is_timestamp(kind):
        return datetime.datetime.fromisoformat(value).astimezone(datetime.timezone.utc)
    return value


def main():
    path, body = sys.argv[1:]
    records = json.load(open(body, encoding="utf-8"))
    want = [{name: shaped(kind, record.get(name)) for name, kind in TYPES.items()} for record in records]
    for row, record in zip(want, records):
        for name in ("mixed", "hollow"):
            row[name] = json.loads(json.dumps(record.get(name)))
    table = pq.read_table(path)
    got = {field.name: field.type for field in table.schema}
    assert got == TYPES, f"{got}"

    def texts(rows):
        for row in rows:
            for name in ("mixed", "hollow"):
                row[name] = json.loads(row[name]) if row[name] is not None else None
        return rows

    rows = texts(table.to_pylist())
    assert rows == want, f"pyarrow: {rows}"
    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    assert frame["user"].iloc[0]["login"] == want[0]["user"]["login"], "pandas"
    read = texts(polars.read_parquet(path).to_dicts())
    assert read == want, f"polars: {read}"
    query = f"SELECT user.plan.price, len(labels), labels[1].name FROM '{path}' ORDER BY id"
    said = duckdb.sql(query).fetchall()
    some = [
        (
            ((row["user"] or {}).get("plan") or {}).get("price"),
            None if row["labels"] is None else len(row["labels"]),
            ((row["labels"] or [None])[0] or {}).get("name"),
        )
        for row in sorted(want, key=lambda row: row["id"])
    ]
    assert said == some, f"DuckDB: {said}, not {some}"

    # The footer: what the file says of itself, and of each column on disk.
    meta = pq.read_metadata(path)
    assert meta.created_by.startswith("gleaner "), meta.created_by
    told = {key.decode(): value.decode() for key, value in meta.metadata.items()}
    plan, run = told["gleaner.plan"], told["gleaner.run"]
    assert len(plan) == 16 and int(plan, 16) >= 0, plan
    assert (told["gleaner.pipeline"], told["gleaner.stream"]) == ("items", "items"), told
    ids = set()
    for group in range(meta.num_row_groups):
        for number in range(meta.num_columns):
            column = meta.row_group(group).column(number)
            assert column.compression == "ZSTD", column
            stats = column.statistics
            if column.path_in_schema == "id":
                ids |= {stats.min, stats.max}
            if column.path_in_schema == "user.plan.price":
                # Floats are in the order of IEEE 754, which pyarrow does not know yet: it takes their ends for none.
                assert stats.null_count == 2, stats
            if column.path_in_schema == "user.since":
                assert stats.min.isoformat() == "2024-05-01T10:00:00+00:00", stats
            if column.path_in_schema == "labels.list.element.name":
                assert (stats.min, stats.max) == ("bug", "\u00fc"), stats
    assert {min(ids), max(ids)} == {min(r["id"] for r in records), max(r["id"] for r in records)}, ids
    package = json.load(open(path.rsplit("/", 1)[0] + "/datapackage.json", encoding="utf-8"))
    told = next(one for one in package["resources"] if one["path"] == path.rsplit("/", 1)[1])
    assert (told["gleaner"]["plan"], told["gleaner"]["run"]) == (plan, run), told["gleaner"]
    print("the same")


main()
