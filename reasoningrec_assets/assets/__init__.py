"""The assets, one module per stage: glue that imports what is heavy inside its bodies, so that the definitions load fast."""

import gc

# Dagster's own objects stay as long as the process: walking them at every collection costs a fifth of loading the assets.
gc.freeze()
