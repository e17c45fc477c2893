"""A content model: how near the target's words are to those of the items that the user liked, and to the others'."""

import numpy as np
import pyarrow as pa

from reasoningrec_assets.baselines.feature_models import fitted, regression
from reasoningrec_assets.baselines.features import SQL, Made, Task
from reasoningrec_assets.prompts.context import load_context
from reasoningrec_assets.prompts.render import item_text
from reasoningrec_assets.sql import query


def content(task: Task) -> Made:
    """Logistic regression on two cosines of TF-IDF vectors: of the target with the liked items' mean, and with the others'."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    items = load_context(task.tables["items"], descriptions=task.tables.get("item_descriptions")).items
    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform([item_text(item) for item in items.values()])
    place = {item: row for row, item in enumerate(items)}
    table = query(SQL["histories"], windows=task.tables["interaction_windows"])
    cosines = np.zeros((table.num_rows, 2))
    for number, row in enumerate(table.to_pylist()):
        target = vectors[place[row["target_item_id"]]]
        for column, wanted in enumerate((True, False)):
            tagged = zip(row["history_item_ids"], row["history_liked"], strict=True)
            shown = [place[item] for item, liked in tagged if liked == wanted]
            if shown:
                cosines[number, column] = (normalize(np.asarray(vectors[shown].sum(axis=0))) @ target.T).item()
    for name, column in zip(("cosine_liked", "cosine_disliked"), cosines.T, strict=True):
        table = table.append_column(name, pa.array(column))
    return fitted(task, table, regression())
