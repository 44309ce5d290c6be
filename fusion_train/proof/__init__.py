"""The proof: networks that fuse in space and time solve `flowprep synth`, and nothing else does. See docs/proof.md."""
