"""The assets, one module per stage: glue that imports what is heavy inside its bodies, so that the definitions load fast."""

import gc

# Dagster's own objects stay as long as the process: a third of loading the assets went into walking them again and again.
# Rarer collections are for good; in a process that loads models they cost nothing.
gc.freeze()
gc.set_threshold(50_000, 20, 20)
