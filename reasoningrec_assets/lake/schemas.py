"""Every table of the lake, declared once.

A declaration here writes the Parquet file (by column name), becomes the column schema and lineage in the Dagster UI,
the schema check, and the view in DuckDB. Nothing heavy is imported: `definitions` reads this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

ColumnType = Literal["string", "int64", "float64", "bool", "list<string>", "list<bool>"]


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means, which upstream columns it is made of, and whether it may be null.

    ``made_of`` names them as ``table.column``, separated by spaces; the asset that writes the table resolves them to the
    asset keys that it really depends on, and leaves out those that it does not.
    """

    name: str
    type: ColumnType
    description: str
    made_of: str = ""
    nullable: bool = False

    @property
    def sources(self) -> list[str]:
        """The upstream columns, each as ``table.column``."""
        return self.made_of.split()


@dataclass(frozen=True)
class TableSchema:
    """A table's columns in their written order, and the columns that identify a row."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def column_names(self) -> list[str]:
        """The column names in written order."""
        return [column.name for column in self.columns]

    def arrow(self) -> pa.Schema:
        """The Arrow schema that the Parquet file has to have."""
        import pyarrow as pa

        types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
        types |= {f"list<{name}>": pa.list_(types[name]) for name in ("string", "bool")}
        return pa.schema([pa.field(column.name, types[column.type], nullable=column.nullable) for column in self.columns])


TABLES: dict[str, TableSchema] = {}  # filled by the declarations below; their assets say what they are for


def _table(name: str, key: str, *columns: Column) -> TableSchema:
    dataset = Column("dataset", "string", "The dataset partition that the row belongs to.")
    TABLES[name] = TableSchema(name, (dataset, *columns), tuple(key.split()))
    return TABLES[name]


# What several columns are made of.
_RAW = "raw_dataset.path"
_ITEM, _LIKED = "cleaned_interactions.item_id", "cleaned_interactions.liked"
_ITEMS, _LIKES = f"{_ITEM} cleaned_interactions.position", f"{_LIKED} cleaned_interactions.position"
_LABEL = "interaction_windows.label"
_PROFILE = "interaction_windows.profile_item_ids interaction_windows.profile_liked items.title item_descriptions.text"
_TEXTS = "items.title item_descriptions.text user_profiles.text"
_REASONING = f"interaction_windows.history_item_ids interaction_windows.label {_TEXTS}"
_INPUT = f"interaction_windows.history_item_ids interaction_windows.history_liked {_TEXTS}"
_SCORE = "sft_splits.input interaction_windows.history_liked"
_METRIC = "predictions.score predictions.label"

# Columns that several tables have.
_EXAMPLE = (
    Column("split", "string", "train, valid or test.", "interaction_windows.split"),
    Column("user_id", "string", "User id.", "interaction_windows.user_id"),
    Column("target_item_id", "string", "Target item.", "interaction_windows.target_item_id"),
)
_GENERATION = (
    Column("status", "string", "ok, trimmed (cut at the token limit, kept to its last full sentence), empty or failed."),
    Column("finish_reason", "string", "stop, length, or none where no call was made.", nullable=True),
    Column("model", "string", "Reference of the model that wrote the text.", nullable=True),
    Column("cache_key", "string", "Key of the answer in the generation cache.", nullable=True),
)

RAW_DATASET = _table(
    "raw_dataset",
    "role file_name",
    Column("role", "string", "What the file holds: ratings, items, users, reviews or metadata."),
    Column("file_name", "string", "Name of the file, without its folder."),
    Column("path", "string", "Path, relative to the data root where it lies below it."),
    Column("bytes", "int64", "Size in bytes."),
    Column("sha256", "string", "SHA-256 of the content."),
    Column("origin", "string", "Where it came from: placed by the user, a URL, or a package."),
)

CLEANED_INTERACTIONS = _table(
    "cleaned_interactions",
    "user_id position",
    Column("user_id", "string", "User id as in the raw file.", _RAW),
    Column("item_id", "string", "Item id as in the raw file.", _RAW),
    Column("rating", "float64", "Rating as in the raw file.", _RAW),
    Column("liked", "bool", "Whether the rating passes the dataset's like rule.", _RAW),
    Column("timestamp", "int64", "Seconds since 1970-01-01 UTC.", _RAW),
    Column("position", "int64", "0-based place in the user's sequence; ties in time keep the file's order.", _RAW),
)

ITEMS = _table(
    "items",
    "item_id",
    Column("item_id", "string", "Item id as in the raw file.", _ITEM),
    Column("title", "string", "Title without its year; the item id where the raw data has no title.", _RAW),
    Column("brand", "string", "Brand, where known.", _RAW, nullable=True),
    Column("price", "string", "Price as shown to a buyer, where known.", _RAW, nullable=True),
    Column("genres", "list<string>", "Genres in the raw file's order; empty where none.", _RAW),
    Column("year", "int64", "Year of release, where known.", _RAW, nullable=True),
)

# History and target of every example (paper section 4); no window overlaps a later target.
INTERACTION_WINDOWS = _table(
    "interaction_windows",
    "split user_id target_item_id",
    Column("split", "string", "train, valid or test."),
    Column("user_id", "string", "User id.", "cleaned_interactions.user_id"),
    Column("target_item_id", "string", "The item to predict.", _ITEM),
    Column("target_rating", "float64", "The user's rating of the target.", "cleaned_interactions.rating"),
    Column("label", "bool", "Whether the user liked the target.", _LIKED),
    Column("target_time", "int64", "When the target was rated, seconds since 1970-01-01 UTC.", "cleaned_interactions.timestamp"),
    Column("history_item_ids", "list<string>", "The last H items before the target, oldest first.", _ITEMS),
    Column("history_liked", "list<bool>", "Whether each history item was liked.", _LIKES),
    Column(
        "profile_item_ids", "list<string>", "Early items that a profile is written from; never a target of any split.", _ITEMS
    ),
    Column("profile_liked", "list<bool>", "Whether each profile item was liked.", _LIKES),
)

ITEM_DESCRIPTIONS = _table(
    "item_descriptions",
    "item_id",
    Column("item_id", "string", "Item id.", "items.item_id"),
    Column("text", "string", "The description; empty where the call failed.", "items.title items.genres items.year"),
    *_GENERATION,
)

USER_PROFILES = _table(
    "user_profiles",
    "user_id",
    Column("user_id", "string", "User id.", "interaction_windows.user_id"),
    Column("text", "string", "The profile; empty where the user has no profile items or the call failed.", _PROFILE),
    *_GENERATION,
)

REASONING_LABELS = _table(
    "reasoning_labels",
    "split user_id target_item_id",
    *_EXAMPLE,
    Column("label", "bool", "The true label that the teacher was told.", _LABEL),
    Column("text", "string", "The reasoning; empty where the call failed.", _REASONING),
    Column("teacher_mode", "string", "conditioned: the teacher was told the label."),
    *_GENERATION,
)

SFT_SPLITS = _table(
    "sft_splits",
    "split user_id target_item_id",
    *_EXAMPLE,
    Column("instruction", "string", "What the student is asked to do; the chat template is applied later, in `prompts`."),
    Column("input", "string", "Profile, tagged history and target.", _INPUT),
    Column(
        "output",
        "string",
        "The prediction to learn, then the reasoning where one was written.",
        f"{_LABEL} reasoning_labels.text",
    ),
    Column("label", "bool", "Whether the user liked the target.", _LABEL),
)

# All methods share these columns, so that one view holds them all.
PREDICTIONS = _table(
    "predictions",
    "split user_id target_item_id",
    Column("method", "string", "Name of the method that scored the row."),
    Column("split", "string", "valid or test.", "sft_splits.split interaction_windows.split"),
    Column("user_id", "string", "User id.", "sft_splits.user_id interaction_windows.user_id"),
    Column("target_item_id", "string", "Target item.", "sft_splits.target_item_id interaction_windows.target_item_id"),
    Column("label", "bool", "Whether the user liked the target.", "sft_splits.label interaction_windows.label"),
    Column("score", "float64", "Log-odds of Yes against No.", _SCORE),
    Column("probability", "float64", "Logistic function of the score.", _SCORE),
    Column(
        "explanation", "string", "The method's reasoning, for the rows that are explained.", "sft_splits.input", nullable=True
    ),
)

EVALUATION_METRICS = _table(
    "evaluation_metrics",
    "method metric",
    Column("method", "string", "Method, or `population` for row counts.", "predictions.method"),
    Column("metric", "string", "Name of the metric."),
    Column("value", "float64", "Null where it is not defined, as AUC is with one class only.", _METRIC, nullable=True),
    Column("low", "float64", "Lower bound of the 95 % interval, where one is computed.", _METRIC, nullable=True),
    Column("high", "float64", "Upper bound of the 95 % interval.", _METRIC, nullable=True),
    Column("n", "int64", "Rows that the value is computed on."),
)


def table_of(asset: str) -> TableSchema | None:
    """The schema that an asset key such as ``zero_shot/student/predictions`` writes: its last part names the table."""
    return TABLES.get(asset.rsplit("/", 1)[-1])
