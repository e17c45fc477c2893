"""Every table of the lake, declared once: for the Parquet writer, the UI's column schema and lineage, and the schema check."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

ColumnType = Literal["string", "int64", "float64", "bool", "list<string>", "list<bool>"]


@dataclass(frozen=True)
class Column:
    """A column: its type, what it means and what it is made of."""

    name: str
    type: ColumnType
    description: str
    made_of: str = ""  # columns as `table.column`, separated by spaces; a step keeps those of the assets that it reads
    nullable: bool = False
    key: bool = False  # it helps to identify a row

    @property
    def sources(self) -> list[str]:
        """The upstream columns, each as ``table.column``."""
        return self.made_of.split()


@dataclass(frozen=True)
class TableSchema:
    """A table's columns in their written order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> list[str]:
        """The column names in written order."""
        return [column.name for column in self.columns]

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the columns that together identify a row."""
        return tuple(column.name for column in self.columns if column.key)

    def arrow(self) -> "pa.Schema":
        """The Arrow schema that the Parquet file has to have."""
        import pyarrow as pa

        types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
        types |= {f"list<{name}>": pa.list_(types[name]) for name in ("string", "bool")}
        return pa.schema([pa.field(column.name, types[column.type], nullable=column.nullable) for column in self.columns])


TABLES: dict[str, TableSchema] = {}  # filled by the declarations below; their assets say what they are for


def _table(name: str, *columns: Column) -> TableSchema:
    dataset = Column("dataset", "string", "The dataset partition that the row belongs to.")
    TABLES[name] = TableSchema(name, (dataset, *columns))
    return TABLES[name]


# What columns are made of.
_RAW = "raw_dataset.path"
_ITEM, _LIKED = "cleaned_interactions.item_id", "cleaned_interactions.liked"
_IDS, _LIKES = f"{_ITEM} cleaned_interactions.position", f"{_LIKED} cleaned_interactions.position"
_LABEL = "interaction_windows.label"
_DESCRIBED = "items.title items.genres items.year item_reviews.reviews"
_PROFILE = "interaction_windows.profile_item_ids interaction_windows.profile_liked items.title item_descriptions.text"
_TEXTS = "items.title item_descriptions.text user_profiles.text"
_REASONING = f"interaction_windows.history_item_ids interaction_windows.label {_TEXTS}"
_INPUT = f"interaction_windows.history_item_ids interaction_windows.history_liked {_TEXTS}"
_OUTPUT = f"{_LABEL} reasoning_labels.text"
_ASKED = "sft_splits.input"
_SCORE = f"{_ASKED} interaction_windows.history_liked"
_METRIC = "predictions.score predictions.label"

# Columns that several tables have.
_EXAMPLE = (
    Column("split", "string", "train, valid or test.", "interaction_windows.split", key=True),
    Column("user_id", "string", "User id.", "interaction_windows.user_id", key=True),
    Column("target_item_id", "string", "Target item.", "interaction_windows.target_item_id", key=True),
)
_GENERATION = (
    Column("status", "string", "ok, trimmed (cut at the token limit, kept to its last full sentence), empty or failed."),
    Column("finish_reason", "string", "stop, length, or none where no call was made.", nullable=True),
    Column("error", "string", "Why there is no text, where the call failed.", nullable=True),
    Column("model", "string", "Reference of the model that wrote the text.", nullable=True),
    Column("cache_key", "string", "Key of the answer in the generation cache.", nullable=True),
)

RAW_DATASET = _table(
    "raw_dataset",
    Column("role", "string", "What the file holds: ratings, items, users, reviews or metadata.", key=True),
    Column("file_name", "string", "Name of the file, without its folder.", key=True),
    Column("path", "string", "Path, relative to the data root where it lies below it."),
    Column("bytes", "int64", "Size in bytes."),
    Column("sha256", "string", "SHA-256 of the content."),
    Column("origin", "string", "Where it came from: placed by the user, a URL, or a package."),
)

CLEANED_INTERACTIONS = _table(
    "cleaned_interactions",
    Column("user_id", "string", "User id as in the raw file.", _RAW, key=True),
    Column("item_id", "string", "Item id as in the raw file.", _RAW),
    Column("rating", "float64", "Rating as in the raw file.", _RAW),
    Column("liked", "bool", "Whether the rating passes the dataset's like rule.", _RAW),
    Column("timestamp", "int64", "Seconds since 1970-01-01 UTC.", _RAW),
    Column("position", "int64", "0-based place in the user's sequence; ties in time keep the file's order.", _RAW, key=True),
)

ITEMS = _table(
    "items",
    Column("item_id", "string", "Item id as in the raw file.", _ITEM, key=True),
    Column("title", "string", "Title without its year; the item id where the raw data has no title.", _RAW),
    Column("brand", "string", "Brand, where known.", _RAW, nullable=True),
    Column("price", "string", "Price as shown to a buyer, where known.", _RAW, nullable=True),
    Column("genres", "list<string>", "Genres in the raw file's order; empty where none.", _RAW),
    Column("year", "int64", "Year of release, where known.", _RAW, nullable=True),
)

CLEANING_REPORT = _table(
    "cleaning_report",
    Column("rule", "string", "Name of the rule.", key=True),
    Column("what", "string", "What the rule does to a row that it meets."),
    Column("rows", "int64", "Rows that it met.", _RAW),
    Column("examples", "list<string>", "Up to three of them, cut at 120 characters.", _RAW),
)

# History and target of every example (paper section 4); no window overlaps a later target.
INTERACTION_WINDOWS = _table(
    "interaction_windows",
    Column("split", "string", "train, valid or test.", key=True),
    Column("user_id", "string", "User id.", "cleaned_interactions.user_id", key=True),
    Column("target_item_id", "string", "The item to predict.", _ITEM, key=True),
    Column("target_rating", "float64", "The user's rating of the target.", "cleaned_interactions.rating"),
    Column("label", "bool", "Whether the user liked the target.", _LIKED),
    Column("target_time", "int64", "When the target was rated, seconds since 1970-01-01 UTC.", "cleaned_interactions.timestamp"),
    Column("history_item_ids", "list<string>", "The last H items before the target, oldest first.", _IDS),
    Column("history_liked", "list<bool>", "Whether each history item was liked.", _LIKES),
    Column("profile_item_ids", "list<string>", "Early items that a profile is written from; never a target of any split.", _IDS),
    Column("profile_liked", "list<bool>", "Whether each profile item was liked.", _LIKES),
)

ITEM_REVIEWS = _table(
    "item_reviews",
    Column("item_id", "string", "Item that a window needs.", "interaction_windows.target_item_id", key=True),
    Column("reviews", "list<string>", "The reviews that its description is written from; none where the data has none.", _RAW),
    Column("reviewers", "list<string>", "Who wrote each of them; empty where that is not known.", _RAW),
    Column("eligible", "int64", "Verified reviews with a text that could be chosen.", _RAW),
    Column("withheld", "int64", "Reviews left out because their user and item are a target, or because of their time.", _RAW),
)

ITEM_DESCRIPTIONS = _table(
    "item_descriptions",
    Column("item_id", "string", "Item id.", "items.item_id", key=True),
    Column("text", "string", "The description; empty where the call failed.", _DESCRIBED),
    *_GENERATION,
)

USER_PROFILES = _table(
    "user_profiles",
    Column("user_id", "string", "User id.", "interaction_windows.user_id", key=True),
    Column("text", "string", "The profile; empty where the user has no profile items or the call failed.", _PROFILE),
    *_GENERATION,
)

_MODES = "conditioned: the teacher was told the label; blind: it predicted it; conditioned_fallback: blind, but never right."
REASONING_LABELS = _table(
    "reasoning_labels",
    *_EXAMPLE,
    Column("label", "bool", "The true label.", _LABEL),
    Column("text", "string", "The reasoning; empty where the call failed.", _REASONING),
    Column("teacher_mode", "string", _MODES),
    *_GENERATION,
)

SFT_SPLITS = _table(
    "sft_splits",
    *_EXAMPLE,
    Column("instruction", "string", "What the student is asked to do; the chat template is applied later, in `prompts`."),
    Column("input", "string", "Profile, tagged history and target.", _INPUT),
    Column("output", "string", "The prediction to learn, then the reasoning where one was written.", _OUTPUT),
    Column("label", "bool", "Whether the user liked the target.", _LABEL),
)

# All methods share these columns, so that one view holds them all.
PREDICTIONS = _table(
    "predictions",
    Column("method", "string", "Name of the method that scored the row."),
    Column("split", "string", "valid or test.", "sft_splits.split interaction_windows.split", key=True),
    Column("user_id", "string", "User id.", "sft_splits.user_id interaction_windows.user_id", key=True),
    Column("target_item_id", "string", "Target item.", "sft_splits.target_item_id interaction_windows.target_item_id", key=True),
    Column("label", "bool", "Whether the user liked the target.", "sft_splits.label interaction_windows.label"),
    Column("score", "float64", "Log-odds of Yes against No.", _SCORE),
    Column("probability", "float64", "Logistic function of the score.", _SCORE),
    Column("explanation", "string", "The method's reasoning, for the rows that are explained.", _ASKED, nullable=True),
)

EVALUATION_METRICS = _table(
    "evaluation_metrics",
    Column("method", "string", "Method, or `population` for row counts.", "predictions.method", key=True),
    Column("metric", "string", "Name of the metric.", key=True),
    Column("value", "float64", "Null where it is not defined, as AUC is with one class only.", _METRIC, nullable=True),
    Column("low", "float64", "Lower bound of the 95 % interval, where one is computed.", _METRIC, nullable=True),
    Column("high", "float64", "Upper bound of the 95 % interval.", _METRIC, nullable=True),
    Column("n", "int64", "Rows that the value is computed on."),
)


def table_of(asset: str) -> TableSchema | None:
    """The schema that an asset key such as ``zero_shot/student/predictions`` writes: its last part names the table."""
    return TABLES.get(asset.rsplit("/", 1)[-1])
