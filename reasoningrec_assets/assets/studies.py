"""The studies: for every variant a branch below `study/<variant>` with what it uses and nothing else, and a job that runs it."""

import dagster as dg

from reasoningrec_assets.assets.language import labels_of, profiles_of
from reasoningrec_assets.assets.student import TEACHER, TUNED, adapter_of, predictions_of, splits_of, zero_shot_of
from reasoningrec_assets.training.variants import FULL, VARIANTS, Variant

MAKERS = {"user_profiles": profiles_of, "reasoning_labels": labels_of}
STUDIES = {name: variant for name, variant in VARIANTS.items() if variant is not FULL}


def _branch(variant: Variant) -> list[dg.AssetsDefinition]:
    own = [make(variant) for table, make in MAKERS.items() if table in variant.inputs and variant.asset(table) != table]
    trained = predictions_of(variant, variant.name, TUNED, key=["study", variant.name, "predictions"])
    return [*own, splits_of(variant), adapter_of(variant), trained]


BRANCHES = {name: _branch(variant) for name, variant in STUDIES.items()}
_ASKED = ("titles", "label_only", "grounded", "no_profile", "no_description", "reworded")  # not what is about K or the loss
ZERO_SHOT = {f"zero_shot_{name}": zero_shot_of(name, STUDIES[name]) for name in _ASKED}
ZERO_SHOT["zero_shot_teacher"] = zero_shot_of("teacher", who=TEACHER)
# by the name that their rows carry, and their adapters
TRAINED = {name: branch[-1] for name, branch in BRANCHES.items() if not STUDIES[name].given}
ADAPTERS = {name: branch[-2] for name, branch in BRANCHES.items() if not STUDIES[name].given}
studies = [*(asset for branch in BRANCHES.values() for asset in branch), *ZERO_SHOT.values()]
jobs = [
    dg.define_asset_job(f"study_{name}", dg.AssetSelection.assets(*branch).upstream(), description=f"The study's {name}.")
    for name, branch in BRANCHES.items()
]
