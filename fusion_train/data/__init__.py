"""From a store to batches: splits, clip indices, decoding, crops. Only `batch`, `augment` and `loader` need torch."""
