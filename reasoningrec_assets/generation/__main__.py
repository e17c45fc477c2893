"""`python -m reasoningrec_assets.generation`: look after the generation cache from the command line."""

import argparse
import sys
from pathlib import Path

from reasoningrec_assets.errors import PlatformError
from reasoningrec_assets.generation import housekeeping
from reasoningrec_assets.lake.files import default_root


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reasoningrec_assets.generation", description=__doc__)
    parser.add_argument("--data", type=Path, default=default_root(), help="data root (default: REASONINGREC_DATA, or ./data)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("stats", help="what the cache holds, by model")
    gc = verbs.add_parser("gc", help="count answers that no live table refers to; --delete removes them")
    gc.add_argument("--older-than", type=float, default=30, metavar="DAYS", help="only shards older than this (default 30)")
    gc.add_argument("--delete", action="store_true", help="remove them")
    export = verbs.add_parser("export", help="write all live texts with their provenance to one Parquet file")
    export.add_argument("path", type=Path)
    chosen = parser.parse_args(arguments)
    root = chosen.data.absolute()
    try:
        if chosen.verb == "stats":
            for row in housekeeping.statistics(root):
                more = "".join(f" {name} {row[name]}" for name in ("adapter", "quantization") if row[name])
                held = f"{row['answers']} answers in {row['shards']} shards, {row['bytes'] / 1e6:.1f} MB"
                cost = f"{row['prompt_tokens']} prompt and {row['completion_tokens']} new tokens in {row['seconds']:.0f} s"
                print(f"{row['model']} {row['engine']}{more}: {held}, {cost}")
        elif chosen.verb == "gc":
            found = housekeeping.collect_garbage(root, older_than_days=chosen.older_than, delete=chosen.delete)
            print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in found.items()))
            print("" if chosen.delete else "nothing was removed; run again with --delete")
        else:
            print(f"{housekeeping.export_labels(root, chosen.path.absolute())} rows in {chosen.path}")
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
