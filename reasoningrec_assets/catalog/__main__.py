"""``python -m reasoningrec_assets.catalog``: the commands of ``python -m reasoningrec_assets``, by their older name."""

from reasoningrec_assets.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
