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
    """One column: its type, whether it may be null, what it means and which upstream columns it is made of.

    ``sources`` are written ``table.column``; the asset that writes the table resolves them to the asset keys that it
    really depends on, and leaves out those that it does not.
    """

    name: str
    type: ColumnType
    description: str
    nullable: bool = False
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableSchema:
    """A table's columns in their written order, and the columns that identify a row."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def column_names(self) -> list[str]:
        """The column names in written order."""
        return [column.name for column in self.columns]

    def arrow(self) -> pa.Schema:
        """The Arrow schema that the Parquet file has to have."""
        import pyarrow as pa

        types = {
            "string": pa.string(),
            "int64": pa.int64(),
            "float64": pa.float64(),
            "bool": pa.bool_(),
            "list<string>": pa.list_(pa.string()),
            "list<bool>": pa.list_(pa.bool_()),
        }
        return pa.schema([pa.field(column.name, types[column.type], nullable=column.nullable) for column in self.columns])


def _dataset_column() -> Column:
    return Column("dataset", "string", "The dataset partition that the row belongs to.")


def _generation_columns() -> tuple[Column, ...]:
    return (
        Column("status", "string", "ok, trimmed (cut at the token limit, kept to its last full sentence), empty or failed."),
        Column("finish_reason", "string", "stop, length, or none where no call was made.", nullable=True),
        Column("model", "string", "Reference of the model that wrote the text.", nullable=True),
        Column("cache_key", "string", "Key of the answer in the generation cache.", nullable=True),
    )


RAW_DATASET = TableSchema(
    "raw_dataset",
    "The raw files that the dataset is read from, with their origin and hash.",
    (
        _dataset_column(),
        Column("role", "string", "What the file holds: ratings, items, users, reviews or metadata."),
        Column("file_name", "string", "Name of the file, without its folder."),
        Column("path", "string", "Path, relative to the data root where it lies below it."),
        Column("bytes", "int64", "Size in bytes."),
        Column("sha256", "string", "SHA-256 of the content."),
        Column("origin", "string", "Where it came from: placed by the user, a URL, or a package."),
    ),
    key=("role", "file_name"),
)

CLEANED_INTERACTIONS = TableSchema(
    "cleaned_interactions",
    "One row per user and item, in each user's time order.",
    (
        _dataset_column(),
        Column("user_id", "string", "User id as in the raw file.", sources=("raw_dataset.path",)),
        Column("item_id", "string", "Item id as in the raw file.", sources=("raw_dataset.path",)),
        Column("rating", "float64", "Rating as in the raw file.", sources=("raw_dataset.path",)),
        Column("liked", "bool", "Whether the rating passes the dataset's like rule.", sources=("raw_dataset.path",)),
        Column("timestamp", "int64", "Seconds since 1970-01-01 UTC.", sources=("raw_dataset.path",)),
        Column(
            "position",
            "int64",
            "0-based place in the user's sequence; ties in time keep the file's order.",
            sources=("raw_dataset.path",),
        ),
    ),
    key=("user_id", "position"),
)

ITEMS = TableSchema(
    "items",
    "One row per item that a cleaned interaction names.",
    (
        _dataset_column(),
        Column("item_id", "string", "Item id as in the raw file.", sources=("cleaned_interactions.item_id",)),
        Column(
            "title",
            "string",
            "Title without its year; the item id where the raw data has no title.",
            sources=("raw_dataset.path",),
        ),
        Column("brand", "string", "Brand, where known.", nullable=True, sources=("raw_dataset.path",)),
        Column("price", "string", "Price as shown to a buyer, where known.", nullable=True, sources=("raw_dataset.path",)),
        Column("genres", "list<string>", "Genres in the raw file's order; empty where none.", sources=("raw_dataset.path",)),
        Column("year", "int64", "Year of release, where known.", nullable=True, sources=("raw_dataset.path",)),
    ),
    key=("item_id",),
)

INTERACTION_WINDOWS = TableSchema(
    "interaction_windows",
    "History and target of every train, validation and test example (paper section 4; windows never overlap a later target).",
    (
        _dataset_column(),
        Column("split", "string", "train, valid or test."),
        Column("user_id", "string", "User id.", sources=("cleaned_interactions.user_id",)),
        Column("target_item_id", "string", "The item to predict.", sources=("cleaned_interactions.item_id",)),
        Column("target_rating", "float64", "The user's rating of the target.", sources=("cleaned_interactions.rating",)),
        Column("label", "bool", "Whether the user liked the target.", sources=("cleaned_interactions.liked",)),
        Column(
            "target_time",
            "int64",
            "When the user rated the target, seconds since 1970-01-01 UTC.",
            sources=("cleaned_interactions.timestamp",),
        ),
        Column(
            "history_item_ids",
            "list<string>",
            "The last H items before the target, oldest first.",
            sources=("cleaned_interactions.item_id", "cleaned_interactions.position"),
        ),
        Column(
            "history_liked",
            "list<bool>",
            "Whether each history item was liked.",
            sources=("cleaned_interactions.liked", "cleaned_interactions.position"),
        ),
        Column(
            "profile_item_ids",
            "list<string>",
            "The user's early items that a profile is written from; never a target of any split.",
            sources=("cleaned_interactions.item_id", "cleaned_interactions.position"),
        ),
        Column(
            "profile_liked",
            "list<bool>",
            "Whether each profile item was liked.",
            sources=("cleaned_interactions.liked", "cleaned_interactions.position"),
        ),
    ),
    key=("split", "user_id", "target_item_id"),
)

ITEM_DESCRIPTIONS = TableSchema(
    "item_descriptions",
    "What the teacher writes of each item that a window needs.",
    (
        _dataset_column(),
        Column("item_id", "string", "Item id.", sources=("items.item_id",)),
        Column(
            "text",
            "string",
            "The description; empty where the call failed.",
            sources=("items.title", "items.genres", "items.year"),
        ),
        *_generation_columns(),
    ),
    key=("item_id",),
)

USER_PROFILES = TableSchema(
    "user_profiles",
    "What the teacher writes of each user's taste, from the profile items alone.",
    (
        _dataset_column(),
        Column("user_id", "string", "User id.", sources=("interaction_windows.user_id",)),
        Column(
            "text",
            "string",
            "The profile; empty where the user has no profile items or the call failed.",
            sources=(
                "interaction_windows.profile_item_ids",
                "interaction_windows.profile_liked",
                "items.title",
                "item_descriptions.text",
            ),
        ),
        *_generation_columns(),
    ),
    key=("user_id",),
)

REASONING_LABELS = TableSchema(
    "reasoning_labels",
    "The teacher's reasoning about a known label: training targets, and references for the test rows that are explained.",
    (
        _dataset_column(),
        Column("split", "string", "train, valid or test.", sources=("interaction_windows.split",)),
        Column("user_id", "string", "User id.", sources=("interaction_windows.user_id",)),
        Column("target_item_id", "string", "Target item.", sources=("interaction_windows.target_item_id",)),
        Column("label", "bool", "The true label that the teacher was told.", sources=("interaction_windows.label",)),
        Column(
            "text",
            "string",
            "The reasoning; empty where the call failed.",
            sources=(
                "interaction_windows.history_item_ids",
                "interaction_windows.label",
                "items.title",
                "item_descriptions.text",
                "user_profiles.text",
            ),
        ),
        Column("teacher_mode", "string", "conditioned: the teacher was told the label."),
        *_generation_columns(),
    ),
    key=("split", "user_id", "target_item_id"),
)

SFT_SPLITS = TableSchema(
    "sft_splits",
    "Instruction, input and output of every row that the student trains on, is validated on, or is tested on.",
    (
        _dataset_column(),
        Column("split", "string", "train, valid or test.", sources=("interaction_windows.split",)),
        Column("user_id", "string", "User id.", sources=("interaction_windows.user_id",)),
        Column("target_item_id", "string", "Target item.", sources=("interaction_windows.target_item_id",)),
        Column("instruction", "string", "What the student is asked to do; the chat template is applied later, in `prompts`."),
        Column(
            "input",
            "string",
            "Profile, tagged history and target.",
            sources=(
                "interaction_windows.history_item_ids",
                "interaction_windows.history_liked",
                "items.title",
                "item_descriptions.text",
                "user_profiles.text",
            ),
        ),
        Column(
            "output",
            "string",
            "The answer to learn: the prediction, then the reasoning where one was written.",
            sources=("interaction_windows.label", "reasoning_labels.text"),
        ),
        Column("label", "bool", "Whether the user liked the target.", sources=("interaction_windows.label",)),
    ),
    key=("split", "user_id", "target_item_id"),
)

PREDICTIONS = TableSchema(
    "predictions",
    "One method's score for every row of the validation sample and of the test split; all methods share this table's columns.",
    (
        _dataset_column(),
        Column("method", "string", "Name of the method that scored the row."),
        Column("split", "string", "valid or test.", sources=("sft_splits.split", "interaction_windows.split")),
        Column("user_id", "string", "User id.", sources=("sft_splits.user_id", "interaction_windows.user_id")),
        Column(
            "target_item_id",
            "string",
            "Target item.",
            sources=("sft_splits.target_item_id", "interaction_windows.target_item_id"),
        ),
        Column("label", "bool", "Whether the user liked the target.", sources=("sft_splits.label", "interaction_windows.label")),
        Column(
            "score", "float64", "Log-odds of Yes against No.", sources=("sft_splits.input", "interaction_windows.history_liked")
        ),
        Column(
            "probability",
            "float64",
            "Logistic function of the score.",
            sources=("sft_splits.input", "interaction_windows.history_liked"),
        ),
        Column(
            "explanation",
            "string",
            "The reasoning that the method wrote, for the rows that are explained.",
            nullable=True,
            sources=("sft_splits.input",),
        ),
    ),
    key=("split", "user_id", "target_item_id"),
)

EVALUATION_METRICS = TableSchema(
    "evaluation_metrics",
    "Every metric of every method on one test population.",
    (
        _dataset_column(),
        Column("method", "string", "Method, or `population` for row counts.", sources=("predictions.method",)),
        Column("metric", "string", "Name of the metric."),
        Column(
            "value",
            "float64",
            "Its value; null where it is not defined, as AUC is with one class only.",
            nullable=True,
            sources=("predictions.score", "predictions.label"),
        ),
        Column(
            "low",
            "float64",
            "Lower bound of the 95 % interval, where one is computed.",
            nullable=True,
            sources=("predictions.score", "predictions.label"),
        ),
        Column(
            "high",
            "float64",
            "Upper bound of the 95 % interval.",
            nullable=True,
            sources=("predictions.score", "predictions.label"),
        ),
        Column("n", "int64", "Rows that the value is computed on."),
    ),
    key=("method", "metric"),
)

TABLES: dict[str, TableSchema] = {
    table.name: table
    for table in (
        RAW_DATASET,
        CLEANED_INTERACTIONS,
        ITEMS,
        INTERACTION_WINDOWS,
        ITEM_DESCRIPTIONS,
        USER_PROFILES,
        REASONING_LABELS,
        SFT_SPLITS,
        PREDICTIONS,
        EVALUATION_METRICS,
    )
}


def table_of(asset: str) -> TableSchema | None:
    """The schema that an asset key such as ``zero_shot/student/predictions`` writes: its last part names the table."""
    return TABLES.get(asset.rsplit("/", 1)[-1])
