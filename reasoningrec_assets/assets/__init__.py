"""The assets, one module per stage: glue that imports what is heavy inside its bodies, so that the definitions load fast."""
