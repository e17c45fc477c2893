from reasoningrec_assets_tests.assets.conftest import pipeline

__all__ = ["pipeline"]
