"""What the table writer refuses, and that equal rows give equal bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.lake import tables
from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.lake.tables import markdown, preview, write_table


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


REFUSED = {
    "missing": (lambda t: t.drop_columns(["title"]), r"missing: \['title'\]"),
    "extra": (lambda t: t.append_column("colour", pa.array(["red"] * 3)), r"not declared: \['colour'\]"),
    "twice": (lambda t: t.append_column("title", t.column("title")), r"there twice: \['title'\]"),
    "null": (lambda t: replaced(t, "item_id", pa.array(["a", None, "c"])), "column item_id holds nulls"),
    "text for a number": (lambda t: replaced(t, "year", pa.array(["a", "b", "c"])), "year is string, not int64"),
    "number for an id": (lambda t: replaced(t, "item_id", pa.array([1.0, 2.0, 3.0])), "item_id is double, not string"),
    "float for an integer": (lambda t: replaced(t, "year", pa.array([1.0, 2.0, 3.0])), "year is double, not int64"),
    "number for a dataset": (lambda t: replaced(t, "dataset", pa.array([1, 2, 3])), "dataset is int64, not string"),
    "list of another type": (lambda t: replaced(t, "genres", pa.array([[1], [2], []])), "genres is list<.*> *, not list"),
    "other partition": (
        lambda t: replaced(t, "dataset", pa.array(["fashion", "beauty", "fashion"])),
        "rows of another partition than fashion",
    ),
    "empty": (lambda t: t.slice(0, 0), "no row"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_table_names_the_fault_and_leaves_no_file(case, rows, publish, lake):
    spoil, message = REFUSED[case]
    with pytest.raises(PermanentError, match=message) as caught:
        publish("items", table=spoil(rows(TABLES["items"], "fashion")))
    assert caught.value.remedy
    assert [path for path in lake.root.rglob("*") if path.is_file() and path.suffix == ".parquet"] == []
    assert lake.receipts.newest("items", "fashion") is None


def test_null_in_a_later_row_group_is_refused(rows, publish, lake, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 2)
    with pytest.raises(PermanentError, match="item_id holds nulls"):
        publish("items", table=replaced(rows(TABLES["items"], "fashion"), "item_id", pa.array(["a", "b", None])))
    assert list((lake.root / "scratch").rglob("*.parquet")) == []


def test_narrower_and_encoded_types_are_widened(rows, tmp_path: Path):
    plain = rows(TABLES["items"], "fashion")
    encoded = replaced(plain, "year", plain.column("year").cast(pa.int16()))
    encoded = replaced(encoded, "title", plain.column("title").dictionary_encode())
    encoded = replaced(encoded, "brand", plain.column("brand").cast(pa.large_string()))
    for name, table in (("plain", plain), ("encoded", encoded)):
        write_table(TABLES["items"], table, tmp_path / name, dataset="fashion")
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "encoded").read_bytes()


def test_column_that_is_null_throughout_needs_no_type(rows, tmp_path: Path):
    write_table(
        TABLES["items"], replaced(rows(TABLES["items"], "fashion"), "price", pa.nulls(3)), tmp_path / "x", dataset="fashion"
    )
    assert pq.read_schema(tmp_path / "x").equals(TABLES["items"].arrow())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    shuffled=st.permutations(TABLES["interaction_windows"].arrow().names),
)
def test_bytes_depend_on_rows_alone(batch_sizes, shuffled, rows, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 16)
    table = rows(TABLES["interaction_windows"], "fashion", count=100)
    write_table(TABLES["interaction_windows"], table, tmp_path / "whole", dataset="fashion")

    ordered = table.select(shuffled)
    batches, start = [], 0
    for size in [*batch_sizes, 100]:
        batches += ordered.slice(start, size).to_batches()
        start = min(start + size, 100)
    reader = pa.RecordBatchReader.from_batches(ordered.schema, batches)
    assert write_table(TABLES["interaction_windows"], reader, tmp_path / "parts", dataset="fashion") == 100
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("whole", "parts")}
    assert len(digests) == 1


@pytest.mark.parametrize("name", TABLES)
def test_every_declared_table_writes_and_reads_back(name, rows, publish, lake):
    table = rows(TABLES[name], "fashion")
    receipt, reused = publish(name, table=table)
    assert not reused
    assert receipt.row_count == 3
    assert pq.read_table(lake.path_of(receipt)).equals(table)
    assert [column["name"] for column in receipt.columns] == TABLES[name].arrow().names


def test_declared_keys_and_sources_exist():
    for table in TABLES.values():
        assert {*table.key} <= {*table.arrow().names}
        for column in table.columns:
            for source in column.made_of:
                upstream, upstream_column = source.split(".")
                assert upstream_column in TABLES[upstream].arrow().names, f"{table.name}.{column.name} names {source}"


def test_study_assets_write_the_table_of_their_last_name(publish):
    receipt, _ = publish("zero_shot/student/predictions")
    assert [column["name"] for column in receipt.columns] == TABLES["predictions"].arrow().names


def test_preview_is_short_one_line_cells(rows, tmp_path: Path):
    table = rows(TABLES["items"], "fashion", count=30)
    table = replaced(table, "title", pa.array(["<b>a|b\n" + "x" * 500] * 30))
    write_table(TABLES["items"], table, tmp_path / "x", dataset="fashion")
    lines = preview(tmp_path / "x").splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) < 300
    assert "&lt;b>a\\|b x" in lines[2]


def test_a_cell_holds_no_markup():
    (*_, cells) = markdown(["title"], [["![x](http://example.org/p.png) `code` \\[not](escaped)"]]).splitlines()
    assert cells == "| !\\[x\\](http://example.org/p.png) \\`code\\` \\\\\\[not\\](escaped) |"
