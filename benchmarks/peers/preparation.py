"""Raw ratings to what a model is trained on, as others do it: `preparation.py notebook|rectools|recbole RATINGS.csv`."""

import sys
from pathlib import Path

HISTORY, FEWEST = 20, 20


def read(path):
    """The ratings as RecTools' own example and the published notebooks read MovieLens; a CSV with its header as pandas does."""
    import pandas as pd

    if path.endswith(".dat"):
        return pd.read_csv(path, sep="::", engine="python", header=None, names=["userId", "movieId", "rating", "timestamp"])
    return pd.read_csv(path)


def notebook(path):
    """As the published notebooks: the frame is filtered once for every user, and the windows are cut in Python."""
    ratings = read(path)
    sizes = ratings["userId"].value_counts()
    windows = []
    for user in sizes[sizes >= FEWEST].index:
        rows = ratings[ratings["userId"] == user].sort_values("timestamp")
        items, liked = rows["movieId"].tolist(), (rows["rating"] >= 3).tolist()
        for back in (3, 2, 1):
            cut = len(items) - back
            windows.append((user, items[cut - HISTORY : cut], liked[cut - HISTORY : cut], items[cut], liked[cut], items[:15]))
    return len(windows)


def rectools(path):
    import pandas as pd
    from rectools.dataset import Dataset

    ratings = read(path).rename(columns={"userId": "user_id", "movieId": "item_id", "rating": "weight", "timestamp": "datetime"})
    ratings["datetime"] = pd.to_datetime(ratings["datetime"], unit="s")
    kept = ratings[ratings.groupby("user_id")["item_id"].transform("size") >= FEWEST]
    return len(Dataset.construct(kept).interactions.df)


def recbole(path):
    from recbole.config import Config
    from recbole.data import create_dataset

    values = {
        "data_path": str(Path(path).parent.parent),
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "RATING_FIELD": "rating",
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "user_inter_num_interval": f"[{FEWEST},inf)",
        "MAX_ITEM_LIST_LENGTH": HISTORY,
        "train_neg_sample_args": None,
        "use_gpu": False,
    }
    sys.argv = sys.argv[:1]
    return len(create_dataset(Config(model="SASRec", dataset=Path(path).parent.name, config_dict=values)))


print({"notebook": notebook, "rectools": rectools, "recbole": recbole}[sys.argv[1]](sys.argv[2]))
