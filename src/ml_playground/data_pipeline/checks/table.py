"""Every code that a check can report."""

from collections.abc import Mapping

from ml_playground.data_pipeline.checks.findings import Check
from ml_playground.data_pipeline.checks.row_codes import ROW_CODES
from ml_playground.data_pipeline.checks.text_codes import TEXT_CODES

CHECKS: Mapping[str, Check] = {**TEXT_CODES, **ROW_CODES}
