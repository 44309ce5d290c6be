"""One process owns a device and computes flow for all workers of a run.

Workers decode, resize, encode and commit, a video each; their grey frames and the codes of their flow pass through
shared memory (`lane`). `client` is the worker's side, `server` the owner's, which joins what waits into large batches,
and `process` is how a run starts, watches and replaces it.
"""
