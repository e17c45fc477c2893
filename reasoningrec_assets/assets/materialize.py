"""From an asset's body to a step of the lake and back: what the UI shows comes from the receipt, as the catalogue does."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from inspect import isgenerator, signature
from typing import Any, Literal, TypeVar, get_origin

import dagster as dg
from pydantic import Field, create_model

from reasoningrec_assets import catalog
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.errors import Log, PlatformError, TransientError
from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.lake.steps import Inputs, Lake, Output, Step, code_version, run_step
from reasoningrec_assets.lake.tables import markdown
from reasoningrec_assets.resources.lake import LakeResource
from reasoningrec_assets.settings import Section, SectionName, resolve
from reasoningrec_assets.training.variants import FULL, Variant

S = TypeVar("S", bound=Section)
FIRST_WAIT = 15.0  # seconds before a second try; the third and fourth wait four and sixteen times as long


class StepConfig(dg.Config):
    """Run config that every asset takes."""

    force: bool = Field(default=False, description="Make the partition again even though nothing changed.")


def step_config(name: str, sections: Mapping[SectionName, type[Section]], **fields: Any) -> type[StepConfig]:
    """A run config class whose sections override the profile's, field by field; a field left out keeps its value."""
    for section, kind in sections.items():
        nested = _overrides(section, kind)
        fields[section] = (nested, Field(default_factory=nested, description=f"Overrides of the profile's section {section}."))
    return create_model(name, __base__=StepConfig, **fields)


@cache
def _overrides(section: SectionName, kind: type[Section]) -> type[dg.Config]:
    fields: dict[str, Any] = {}
    for field, info in kind.model_fields.items():
        # Dagster's config knows no Literal; the section itself refuses other values, and names the right ones
        annotation = str if get_origin(info.annotation) is Literal else info.annotation
        fields[field] = (annotation | None, Field(default=None, description=info.description))
    return create_model(f"{section}_overrides", __base__=dg.Config, **fields)


def configured(config: type[StepConfig], variant: Variant) -> type[StepConfig]:
    """The run config of a variant's asset: a study takes its settings from the variant, so that its name says what it is."""
    return config if variant is FULL else StepConfig


def settings_of(kind: type[S], section: SectionName, config: StepConfig, dataset: registry.Dataset, variant: Variant = FULL) -> S:
    """One section's resolved settings: profile, then dataset record, then variant of the study, then run config."""
    overrides = getattr(config, section).model_dump() if hasattr(config, section) else {}
    return resolve(kind, section, dataset.settings, variant.settings, overrides)


def asset(**spec: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset`, where a mistake that shows before the step begins, as in its settings, fails it as one in the step does."""

    def made(body: Callable[..., Any]) -> dg.AssetsDefinition:
        @wraps(body)
        def run(context: dg.AssetExecutionContext, config: StepConfig, lake: LakeResource) -> Any:
            def fail(_: Inputs) -> Output:
                raise mistake

            try:
                results = body(context, config, lake)
                yield from results if isgenerator(results) else [results]
            except PlatformError as error:
                mistake = error
                needed = [dep.asset_key for dep in context.assets_def.specs_by_key[context.asset_key].deps]  # need not be there
                materialize(context, lake, fail, settings={}, config=StepConfig(force=True), optional=needed)

        vars(run)["__signature__"] = signature(body)  # Dagster asks for it twenty times
        version = code_version(dg.AssetKey.from_coercible(spec.get("key", body.__name__)).to_user_string())
        return dg.asset(code_version=version, **spec)(run)

    return made


def materialize(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    build: Callable[[Inputs], Output],
    *,
    settings: Mapping[str, Any],
    config: StepConfig,
    external: bool = False,
    optional: Iterable[dg.AssetKey] = (),
) -> dg.MaterializeResult:
    """Run one step of the lake for the context's asset and partition, see `Step`, and report its receipt.

    What is ``optional`` is read where it exists, and need not be a dependency that Dagster knows of and would ask for.
    Dagster tries again after a `TransientError`, three times and ever later; nothing else is tried again. A `PermanentError`
    becomes a `dg.Failure` that says so to every retry mechanism.
    """
    opened = lake.open()
    spec = context.assets_def.specs_by_key[context.asset_key]
    existing = {key.to_user_string() for key in optional}
    upstream = tuple(sorted({dep.asset_key.to_user_string() for dep in spec.deps} | existing))
    told: dict[str, Any] = {"settings": settings, "upstream": upstream, "optional": tuple(sorted(existing))}
    told |= {"run_id": context.run.run_id, "external": external, "force": config.force}
    step = Step(spec.key.to_user_string(), context.partition_key, spec.code_version or "", **told)
    try:
        receipt, reused = run_step(opened, step, build, log=context.log.info)
    except TransientError as error:
        raise dg.RetryRequested(max_retries=3, seconds_to_wait=FIRST_WAIT * 4**context.retry_number) from error
    except PlatformError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    finally:
        sync_catalogue(opened, context.log.info)
    metadata = _metadata(opened, receipt, reused=reused)
    return dg.MaterializeResult(data_version=dg.DataVersion(receipt.data_version or ""), metadata=metadata)


def sync_catalogue(lake: Lake, log: Log) -> None:
    """Bring DuckDB up to date; a projection that fails is reported and never fails the step that it describes."""
    import duckdb

    try:
        catalog.sync(lake.root, log=log)
    except (duckdb.Error, OSError, PlatformError) as error:  # the receipt stands, and the next sync catches up
        log(f"the catalogue was not brought up to date: {type(error).__name__}: {error}")


def _metadata(lake: Lake, receipt: Receipt, *, reused: bool) -> dict[str, Any]:
    path = lake.path_of(receipt)
    seconds = {"seconds": 0.0, "seconds_saved": receipt.seconds} if reused else {"seconds": receipt.seconds}
    metadata: dict[str, Any] = {"path": dg.MetadataValue.path(str(path)), "bytes": receipt.bytes or 0, "reused": reused}
    metadata |= {**seconds, **receipt.metrics}
    metadata |= {name: dg.MetadataValue.md(text) for name, text in receipt.details.items()}
    if receipt.kind == "table":
        key, dep, rule = dg.AssetKey.from_user_string, dg.TableColumnDep, dg.TableColumnConstraints
        columns = [dg.TableColumn(c["name"], c["type"], c["description"], rule(nullable=c["nullable"])) for c in receipt.columns]
        made_of = receipt.column_lineage.items()
        lineage = {name: [dep(key(one["asset"]), one["column"]) for one in deps] for name, deps in made_of}
        sources = [(name, ", ".join(map("{asset}.{column}".format_map, deps))) for name, deps in made_of]
        metadata |= {"dagster/row_count": receipt.row_count, "dagster/column_schema": dg.TableSchema(columns)}
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(lineage)  # shown to paying users alone
        metadata["made_of"] = dg.MetadataValue.md(markdown(("column", "made of"), sources))
    if receipt.upstream:
        read = [(edge.asset, f"`{edge.data_version[:12]}`", edge.sequence) for edge in receipt.upstream]
        metadata["upstream"] = dg.MetadataValue.md(markdown(("upstream", "data version", "receipt"), read))
    if receipt.models:
        metadata["models"] = dg.MetadataValue.json(list(receipt.models))
    if receipt.kind == "page":
        by_hand = f"Where the browser refuses the link, paste `{path}` into its address bar"
        metadata |= {"report": dg.MetadataValue.url(path.as_uri()), "report_by_hand": dg.MetadataValue.md(by_hand)}
    return metadata
