"""Outputs read back by the programs that people read them with, compared with what an API sent.

    readback.py make FOLDER      writes the bodies that the API answers with
    readback.py check FOLDER     reads FOLDER/data, written from them, and compares
    readback.py matrix FOLDER    reads what `convert` made of each format: FOLDER/BODY.FROM.TO

What a value has to be is worked out here from the bodies alone (docs/types.md tells the rules), by Python's
own JSON reader with numbers kept as they are spelled. Each reader that cannot is named with its reason.
"""

import csv
import datetime
import decimal
import json
import sqlite3
import sys
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

LONG = "1234567890123456789012345"
DIGITS = "0.1234567890123456789"
BIG_CELL = 10_000_000


def base(number):
    return {
        "id": number,
        "text": f"row {number}",
        "lines": "a\r\nb\nc\rd",
        "nul": "a\x00b",
        "emoji": "😀é\u202e",
        "formula": "=1+1",
        "code": "00123",
        "price": "1.10",
        "empty": "",
        "none": None,
        "day": "2024-05-01",
        "at": "2024-05-01T12:00:00+02:00",
        "fine": "2024-05-01T12:00:00.123456789Z",
        "local": "2024-05-01T12:00:00",
        "number": 1.5,
        "ok": True,
        "whole": 9007199254740993,
        "nested": {"a": {"b": number}},
        "tags": ["a", None, "ü"],
    }


def bodies():
    odd = [
        {"id": -9223372036854775808, "text": 'quote " and, comma', "ok": None, "at": None, "empty": None, "number": 1e-7},
        {"id": 9223372036854775807, "text": "", "number": 123456789.125, "nested": {"a": {"b": None}}, "day": "9999-12-31"},
        {"text": "\ufeff'\\N\tNULL", "tags": [], "at": "0001-01-01T00:00:00Z", "ok": False, "day": None},
    ]
    tame = [base(1)] + [{**base(n), **change} for n, change in enumerate(odd, 2)]
    # Only here: what some readers of JSON refuse.
    hostile = [dict(record) for record in tame]
    for record, mixed in zip(hostile, [1, "1", True, [1]]):
        record.update(long="LONG", big="BIG", digits="DIGITS", mixed=mixed, tags=["a", 1, None, {"x": "ü"}])
    hostile[3]["text"] = "x" * BIG_CELL
    text = json.dumps(hostile, ensure_ascii=False)
    for mark, number in [("LONG", LONG), ("BIG", "1e400"), ("DIGITS", DIGITS)]:
        text = text.replace(f'"{mark}"', number)
    wide = json.dumps([{f"column {n}": n * row for n in range(5_000)} for row in range(3)])
    return {"hostile": text, "tame": json.dumps(tame, ensure_ascii=False), "wide": wide}


class Number(str):
    """A number as it is spelled."""


def records(body):
    return json.loads(body, parse_int=Number, parse_float=Number)


def flat(record, before=""):
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def table(body):
    rows = [dict(flat(record)) for record in records(body)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for name in names] for row in rows]


def spelled(value):
    """A value as a cell without types."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "JSON"


failed = []


def same(reader, name, got, want):
    if got != want:
        failed.append(f"{reader}: {name}: {str(got)[:200]!r} is not {str(want)[:200]!r}")


def refuses(reader, read):
    try:
        read()
    except Exception:
        return
    failed.append(f"{reader} took what docs/types.md says that it refuses")


def compare(reader, names, rows, want_names, want_rows, cell, norm=lambda name, value: value):
    same(reader, "header", list(names), want_names)
    same(reader, "number of rows", len(rows), len(want_rows))
    for row, want in zip(rows, want_rows):
        for name, value, wanted in zip(want_names, row, want):
            wanted = cell(name, wanted)
            if isinstance(wanted, JsonText):
                value = JsonText(json.dumps(records(value))) if isinstance(value, str) else value
            same(reader, name, norm(name, value), norm(name, wanted))
    print(f"{reader}: {len(rows)} rows of {len(want_names)} columns")


class JsonText(str):
    pass


def csv_cell(_, value):
    if isinstance(value, (list, dict)):
        return JsonText(json.dumps(value))
    return spelled(value)


def check_csv(path, body):
    names, want = table(body)
    void = lambda _, value: value or ""
    csv.field_size_limit(2 * BIG_CELL)
    with open(path, newline="", encoding="utf-8") as file:
        read = list(csv.reader(file))
    compare("csv by Python", read[0], read[1:], names, want, csv_cell, void)
    read = pandas.read_csv(path, dtype=str, keep_default_na=False)
    compare("csv by pandas", read.columns, read.values.tolist(), names, want, csv_cell, void)
    read = polars.read_csv(path, infer_schema=False)
    compare("csv by polars", read.columns, read.rows(), names, want, csv_cell, void)
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: pyarrow.string() for name in names},
        strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""],
    )
    block = pyarrow.csv.ReadOptions(block_size=4 * BIG_CELL)
    read = pyarrow.csv.read_csv(path, parse_options=options, convert_options=convert, read_options=block)
    rows = [list(row.values()) for row in read.to_pylist()]
    # Null and the empty text stay two.
    compare("csv by pyarrow", read.column_names, rows, names, want, csv_cell)
    read = duckdb.sql(
        f"FROM read_csv('{path}', all_varchar = true, header = true, delim = ',', quote = '\"', escape = '\"', "
        f"allow_quoted_nulls = false, max_line_size = {2 * BIG_CELL})"
    )
    compare("csv by DuckDB", read.columns, read.fetchall(), names, want, csv_cell)


AS_TEXT = {"long", "big", "digits", "code", "price", "local"}
EPOCH = pandas.Timestamp(0, tz="UTC")


def nanos(value):
    """Nanoseconds since 1970, exact for every year."""
    if isinstance(value, str):
        whole, _, fraction = value.removesuffix("Z").partition(".")
        at = datetime.datetime.fromisoformat(whole if "+" in whole else whole + "+00:00")
        return nanos(at) + int((fraction or "0").ljust(9, "0"))
    extra = getattr(value, "nanosecond", 0)
    if isinstance(value, pandas.Timestamp):
        return value.value if value.unit == "ns" else value.as_unit("us").value * 1000 + extra
    since = value - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def typed_cell(name, value):
    """A value as a column with a type has it."""
    if name == "mixed" or isinstance(value, (list, dict)):
        return None if value is None else JsonText(json.dumps(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Number):
        if name in AS_TEXT:
            return str(value)
        return float(value) if name == "number" else int(value)
    if name == "day":
        return datetime.date.fromisoformat(value)
    return nanos(value) if name in ("at", "fine") else value


def typed_norm(name, value):
    return nanos(value) if name in ("at", "fine") and value is not None and not isinstance(value, int) else value


def check_parquet(path, body):
    names, want = table(body)

    def through(reader, read):
        columns = [read.column(n).to_pylist() for n in range(read.num_columns)]
        compare(reader, read.column_names, list(zip(*columns)), names, want, typed_cell, typed_norm)

    through("parquet by pyarrow", pyarrow.parquet.read_table(path))
    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    through("parquet by pandas", pyarrow.Table.from_pandas(frame, preserve_index=False))
    through("parquet by polars", polars.read_parquet(path).to_arrow())
    through("parquet by DuckDB", duckdb.sql(f"FROM '{path}'").to_arrow_table())


def sqlite_cell(name, value):
    """A value as a STRICT table has it: instants as they are spelled, booleans as 1 and 0."""
    if name in ("at", "fine", "day"):
        return value
    value = typed_cell(name, value)
    return int(value) if isinstance(value, bool) else value


def check_sqlite(path, table_name, body):
    names, want = table(body)
    query = f'SELECT * FROM "{table_name}" ORDER BY rowid'
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    read = database.execute(query)
    header = [column[0] for column in read.description]
    compare("sqlite by Python", header, read.fetchall(), names, want, sqlite_cell)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    frame = pandas.read_sql_query(query, database, coerce_float=False, dtype="object")
    frame = frame.astype(object).where(frame.notna(), None)
    compare("sqlite by pandas", frame.columns, frame.values.tolist(), names, want, sqlite_cell)
    frame = polars.read_database(query, database, infer_schema_length=None)
    compare("sqlite by polars", frame.columns, frame.rows(), names, want, sqlite_cell)
    database.close()


def check_ndjson(path, body):
    with open(path, encoding="utf-8") as file:
        read = [records(line) for line in file]
    same("ndjson by Python", "records", read, records(body))
    print(f"ndjson by Python: {len(read)} records")


def check_readers_of_json(path, body):
    want = json.loads(body)
    texts = ["id", "text", "lines", "nul", "emoji", "formula", "code", "price", "empty", "whole", "ok", "nested"]
    # Null would be NaN in columns of numbers.
    frame = pandas.read_json(path, lines=True, dtype=False)
    frame = frame.astype(object).where(frame.notna(), None)
    for reader, read in [
        ("pandas", frame.to_dict("records")),
        ("polars", polars.read_ndjson(path, infer_schema_length=None).to_dicts()),
        ("pyarrow", pyarrow.json.read_json(path).to_pylist()),
    ]:
        for name in texts:
            same(f"ndjson by {reader}", name, [row[name] for row in read], [row[name] for row in want])
        print(f"ndjson by {reader}: {len(read)} records")
    read = duckdb.sql(f"SELECT {', '.join(texts)} FROM read_json('{path}', format = 'newline_delimited')").fetchall()
    same("ndjson by DuckDB", "records", read, [tuple(row[name] for name in texts) for row in want])
    print(f"ndjson by DuckDB: {len(read)} records")


def check_wide_json(path, body):
    """Thousands of members in each record."""
    want = json.loads(body)
    names = list(want[0])
    frame = pandas.read_json(path, lines=True, dtype=False)
    same("wide ndjson by pandas", "records", frame[names].values.tolist(), [list(row.values()) for row in want])
    same("wide ndjson by polars", "records", polars.read_ndjson(path, infer_schema_length=None).to_dicts(), want)
    block = pyarrow.json.ReadOptions(block_size=4 * BIG_CELL)
    same("wide ndjson by pyarrow", "records", pyarrow.json.read_json(path, read_options=block).to_pylist(), want)
    read = duckdb.sql(f"FROM read_json('{path}', format = 'newline_delimited', map_inference_threshold = -1)")
    same("wide ndjson by DuckDB", "header", read.columns, names)
    same("wide ndjson by DuckDB", "records", read.fetchall(), [tuple(row.values()) for row in want])
    for reader in ["pandas", "polars", "pyarrow", "DuckDB"]:
        print(f"wide ndjson by {reader}: {len(want)} records of {len(names)} members")


def refusals(path):
    """Numbers beyond a float, in NDJSON."""
    refuses("ndjson by pandas", lambda: pandas.read_json(path, lines=True))
    refuses("ndjson by polars", lambda: polars.read_ndjson(path, infer_schema_length=None))
    block = pyarrow.json.ReadOptions(block_size=4 * BIG_CELL)
    refuses("ndjson by pyarrow", lambda: pyarrow.json.read_json(path, read_options=block))
    # DuckDB reads them as floats, unless it is told that they are text; decimals even then.
    columns = "columns = {long: 'VARCHAR', big: 'VARCHAR', digits: 'VARCHAR', mixed: 'JSON'}"
    read = duckdb.sql(
        f"SELECT DISTINCT long, big, digits FROM read_json('{path}', format = 'newline_delimited', "
        f"maximum_object_size = {4 * BIG_CELL}, {columns})"
    ).fetchall()
    same("ndjson by DuckDB", "numbers as text", read, [(LONG, "1e400", repr(float(DIGITS)))])


NUMBERS = {"id", "number", "whole", "nested.a.b", "long", "big", "digits"}


def is_number(name):
    return name in NUMBERS or name.startswith("column ")


def meaning(name, value):
    """What a value says, whatever format it stood in: exact numbers, instants without their offset."""
    if value is None or isinstance(value, bool):
        return value
    if name in ("at", "fine"):
        return value if isinstance(value, int) else nanos(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Number) or is_number(name):
        return decimal.Decimal(str(value))
    return [meaning("", inner) for inner in value] if isinstance(value, list) else value


def is_json(name):
    return name in ("tags", "mixed")


def of_csv(path):
    csv.field_size_limit(2 * BIG_CELL)
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)

    def cell(name, text):
        if not text:
            return None
        if name == "ok":
            return text == "true"
        return records(text) if is_json(name) and text[0] == "[" else text

    return names, [[cell(*both) for both in zip(names, row)] for row in rows]


def of_ndjson(path):
    with open(path, encoding="utf-8") as file:
        rows = [dict(flat(records(line))) for line in file]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for name in names] for row in rows]


def inside(name, value):
    """What stands in a column of JSON text."""
    return records(value) if is_json(name) and value is not None else value


def of_parquet(path):
    read = pyarrow.parquet.read_table(path)
    columns = [read.column(n).to_pylist() for n in range(read.num_columns)]
    return read.column_names, [[inside(*both) for both in zip(read.column_names, row)] for row in zip(*columns)]


def of_sqlite(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    (name,) = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'").fetchone()
    read = database.execute(f'SELECT * FROM "{name}" ORDER BY rowid')
    names = [column[0] for column in read.description]

    def cell(name, value):
        return bool(value) if name == "ok" and value is not None else inside(name, value)

    return names, [[cell(*both) for both in zip(names, row)] for row in read.fetchall()]


READ = {"csv": of_csv, "ndjson": of_ndjson, "parquet": of_parquet, "sqlite": of_sqlite}


def check_matrix(folder, made):
    for path in sorted(folder.iterdir()):
        body, source, target = path.name.split(".")
        want_names, want = table(made[body])
        names, rows = READ[target](str(path))
        what = f"{body}: {source} to {target}"
        same(what, "header", list(names), want_names)
        same(what, "number of rows", len(rows), len(want))
        for row, wanted in zip(rows, want):
            for name, value, sent in zip(names, row, wanted):
                if name == "mixed" and "csv" in (source, target):
                    # Cells have no types, so scalars of a mixed column are text.
                    sent = str(spelled(sent)) if not isinstance(sent, list) else sent
                    value = str(value) if isinstance(value, Number) else value
                if target == "csv" and sent == "":
                    sent = None
                same(what, name, meaning(name, value), meaning(name, sent))
        print(what)


def main():
    what, folder = sys.argv[1], Path(sys.argv[2])
    made = bodies()
    if what == "make":
        for name, body in made.items():
            (folder / f"{name}.json").write_text(body, encoding="utf-8")
        return
    if what == "matrix":
        check_matrix(folder, made)
        end()
    for name, body in made.items():
        check_csv(str(folder / "data" / f"{name}.csv"), body)
        check_parquet(str(folder / "data" / f"{name}.parquet"), body)
        check_ndjson(str(folder / "data" / f"{name}.ndjson"), body)
        # Of SQLite's 2,000 columns: docs/outputs.md; the tests look at what is said.
        if name != "wide":
            check_sqlite(str(folder / "data" / f"{name}.db"), name, body)
    check_readers_of_json(str(folder / "data" / "tame.ndjson"), made["tame"])
    check_wide_json(str(folder / "data" / "wide.ndjson"), made["wide"])
    refusals(str(folder / "data" / "hostile.ndjson"))
    end()


def end():
    for line in failed:
        print(line, file=sys.stderr)
    sys.exit(1 if failed else 0)


main()
