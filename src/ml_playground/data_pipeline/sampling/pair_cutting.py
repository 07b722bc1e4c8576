"""Pairs of which both answers are left after cutting. Free of torch. P pieces."""

from dataclasses import replace

import numpy as np

from ml_playground.data_pipeline.sampling.cutting import Cut


def whole_pairs(cut: Cut) -> Cut:
    """The pieces whose partner is there too: rows 2k and 2k + 1 of a split are pair k, and one answer alone compares with nothing.

    Args:
        cut: At most one piece of each row.
    """
    pairs = cut.rows // 2
    kept = np.isin(pairs, pairs[1:][pairs[1:] == pairs[:-1]])
    alone = int(cut.lengths[~kept].sum())
    return replace(
        cut,
        rows=cut.rows[kept],
        firsts=cut.firsts[kept],
        lengths=cut.lengths[kept],
        targets=cut.targets[kept],
        dropped=cut.dropped + alone,
    )
