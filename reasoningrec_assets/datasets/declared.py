"""The user's own datasets, one TOML file each; a mistake in a file is kept for whoever asks for that dataset."""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from reasoningrec_assets.datasets.registry import Dataset
from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.settings import Profile, load_profile


def load(folder: Path, shipped: dict[str, Dataset], *, own: bool = True) -> tuple[dict[str, Dataset], dict[str, PermanentError]]:
    """The shipped records and those of the folder's TOML files; and by partition what is wrong with the other files.

    A file is the partition of its name without ending, or, where that is taken or cannot be one, of its name, quoted. The
    settings in the user's `own` files are held against the profile, for the mistake to show before a step that costs hours.
    """
    known, mistakes, paths = dict(shipped), dict[str, PermanentError](), sorted(folder.glob("[!.]*.toml"))
    for path in (*paths, *paths):  # twice, as a base may come after what is based on it
        usable = re.fullmatch("[a-z0-9][a-z0-9_]*", path.stem) and path.stem not in shipped
        key = path.stem if usable else quote(os.fsencode(path.stem)).replace(".", "%2E") + ".toml"
        try:
            known[key] = known.get(key) or _record(path, known, shipped, own=own)
            mistakes.pop(key, None)
        except PermanentError as error:
            mistakes[key] = error
    return known, mistakes


def _record(path: Path, known: Mapping[str, Dataset], shipped: Mapping[str, Dataset], *, own: bool) -> Dataset:
    text = ""
    try:
        if not path.is_file():
            raise OSError("it is not a file that can be read")
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
        if "name" in values or path.stem in shipped:
            raise ValueError(f"a dataset has the name of its file, which is none of {', '.join(shipped)}: rename it, set no name")
        base = None
        if "base" in values:
            base = known.get(str(values["base"]))
            if not base:
                raise ValueError(f"line {_line(text, ['base'])}: no such base {values['base']!r}; use one of {', '.join(known)}")
            rule = {"liked_above", "liked_at_least"} if values.keys() & {"liked_above", "liked_at_least"} else set[str]()
            values = {field: getattr(base, field) for field in base.model_fields_set - rule} | values
            values["base"] = base.raw_name
        dataset = Dataset.model_validate(values | {"name": path.stem})
        if dataset.settings and own:
            profile = load_profile().model_dump()
            Profile.model_validate(profile | {section: profile[section] | its for section, its in dataset.settings.items()})
        # a repetition with another seed keeps what else its base sets
        settings = {section: its | dataset.settings.get(section, {}) for section, its in base.settings.items()} if base else {}
        return dataset.model_copy(update={"settings": dataset.settings | settings})
    except ValidationError as error:
        problem = _explained(text, error)
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error)
    raise PermanentError("read the dataset's declaration", where=str(path), problem=problem, remedy="Correct it, then reload")


def _explained(text: str, found: ValidationError) -> str:
    """Each mistake: line (of the whole record's: that of a field it names) and key, what is wrong, and what is allowed."""
    mistakes: list[str] = []
    record, inside = (Profile, ("settings",)) if found.title == Profile.__name__ else (Dataset, ())
    # what a default lacks follows from another mistake
    for error in (one for one in found.errors() if one["type"] != "default_factory_not_called"):
        loc = tuple(part for part in error["loc"] if part != "[key]")
        message = error["msg"].removeprefix("Value error, ")
        named = loc or tuple(field for field in record.model_fields if re.search(rf"\b{field}\b", message))[:1]
        line = _line(text, inside + (loc[:-1] if error["type"] == "missing" else named))
        if error["type"] == "extra_forbidden":
            annotation = record.model_fields[str(loc[0])].annotation if loc[1:] else record
            nested = (*get_args(annotation), annotation)
            fields = next(kind.model_fields for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel))
            message = f"there is no such key; use {', '.join(sorted(fields.keys() - {'name'}))}"
        mistakes.append((f"line {line}, " if line else "") + ".".join(map(str, inside + loc)) + (": " if loc else "") + message)
    return "; ".join(mistakes)


def _line(text: str, loc: Sequence[int | str]) -> int:
    """The line, from 1, of the last key of ``loc`` that is found, where TOML is written as usual; 0 where none is."""
    lines, line = text.splitlines(), -1
    for key in (rf"[^#=]*\b{re.escape(part)}\b" for part in loc if isinstance(part, str)):
        # an inline table has its keys on the line of its name
        hits = (n for n in range(max(line, 0), len(lines)) if re.match(f".*{key}" if n == line else key, lines[n]))
        line = next(hits, line)
    return line + 1
