"""Generation: plan what has to be written, execute it in chunks, publish it in order; nothing is paid for twice."""
