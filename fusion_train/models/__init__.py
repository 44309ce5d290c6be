"""The networks: backbones of named layers, fusions, two streams, and where their weights come from."""
