"""A leak probe that learns: how well a text that should not know a label predicts it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any


def label_from_text(rows: Sequence[Mapping[str, Any]], *sides: str) -> dict[str, float]:
    """AUC of ``text`` alone for ``label`` on each ``side``; of two, the first's lead and the low end of its 95 % interval.

    The classifier is TF-IDF and logistic regression, fitted on other values of ``about`` than it scores. ``judged`` is 0,
    and there is no AUC, where a label on a side is that of fewer than ten of them: too few for five folds, or to say anything.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    from reasoningrec_assets.metrics.ranking import auc_interval

    figures = {"judged": 0.0, "rows": float(len(rows))}
    seen = Counter((side, label) for side, label, _ in {(row["side"], row["label"], row["about"]) for row in rows})
    if min(seen[side, label] for side in sides for label in (True, False)) < 10:
        return figures
    texts, labels, about, side_of = (np.array([row[name] for row in rows]) for name in ("text", "label", "about", "side"))
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    # folds with equal shares of likes: intercepts that differ between them would blur the order of all scores
    scores: Any = cross_val_predict(model, texts, labels, groups=about, cv=StratifiedGroupKFold(5), method="decision_function")
    for side in sides:
        mine = side_of == side
        interval = auc_interval(labels[mine], scores[mine], groups=about[mine])
        figures |= {f"auc_{side}_{end}": found or 0.0 for end, found in vars(interval).items()}
    if len(sides) == 2:
        # no item is on both sides, so they are independent: distances to the bounds add up in squares (Zou, Donner 2008)
        one, other = (figures[f"auc_{side}_value"] for side in sides)
        low = one - other - hypot(one - figures[f"auc_{sides[0]}_low"], figures[f"auc_{sides[1]}_high"] - other)
        figures |= {"lead": one - other, "lead_low": low}
    return figures | {"judged": 1.0}
