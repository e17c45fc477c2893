"""The data root as a resource, so that a test or a deployment points every asset at another one."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from reasoningrec_assets.lake.files import default_root
from reasoningrec_assets.lake.steps import Lake


class LakeResource(dg.ConfigurableResource):
    """Where data, receipts, models and caches live."""

    root: str = Field(default_factory=lambda: str(default_root()), description="Data root; REASONINGREC_DATA, else ./data.")

    def open(self) -> Lake:
        """The lake at this root."""
        return Lake(Path(self.root).absolute())
