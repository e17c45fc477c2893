"""ReasoningRec as software-defined assets: raw ratings to a student that predicts and explains.

Importing the package loads nothing heavy; start from `reasoningrec_assets.definitions` (Dagster) or from the domain packages
(`datasets`, `prompts`, `generation`, `training`, `metrics`, `lake`, `catalog`), which need no Dagster and serve a notebook as well.
"""
