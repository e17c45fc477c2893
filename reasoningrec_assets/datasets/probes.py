"""Leak probes in SQL, for asset checks to judge: `probes.sql` says what each counts, and what its values are."""

from reasoningrec_assets.sql import statements

PROBES = statements(__file__)
# What must not be in `interaction_windows`, by check: all figures count such rows, and the first line says what holds without.
_NAMES = ("target_not_in_own_history", "nothing_later_than_target", "no_example_in_two_splits", "targets_per_user")
FORBIDDEN = {name: PROBES[name] for name in _NAMES}
