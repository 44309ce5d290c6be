"""Where every pair of a batch is: the fields that the kernels read and the stop rule writes.

A pair's flow and its dual variable lie in two buffers each, its *sides*: a pass reads one and writes the other, since
neighbouring tiles still need what was there before. Pairs whose iterations have ended write no more, so that each pair
has its own idea of which side is the current one.
"""

from __future__ import annotations

LENGTH, FLOW_SIDE, DUAL_SIDE, RECORDS, COUNT, INNER, OUTER, FILTERS, REPEATS = range(9)
"""Columns of the int32 table `status`, a row a pair.

LENGTH: iterations of the next pass, 0 when the warp has ended. FLOW_SIDE, DUAL_SIDE: the current sides. RECORDS: which
changes the pass records: NOTHING, those of its LAST iteration, or of EACH. COUNT: iterations of the warp. INNER, OUTER:
those since the last median filter, and rounds that are over. FILTERS: 1 where the median filter comes before the next
pass. REPEATS: 1 where the pass repeats one that went too far.
"""

NUM_FIELDS = 16
"""Elements of a row of `status`."""

NOTHING, LAST, EACH = range(3)
"""Values of RECORDS."""
