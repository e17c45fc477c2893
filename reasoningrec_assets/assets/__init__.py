"""The assets, one module per stage: glue that imports what is heavy inside its bodies, so that the definitions load fast."""

import gc

# A third of loading the assets went into walking Dagster's own objects, which stay as long as the process, again and again.
gc.freeze()
gc.set_threshold(50_000, 20, 20)
