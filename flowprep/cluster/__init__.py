"""Many machines: a Dask cluster runs one task a video, and supervised children on its workers do them.

Dask brings tasks to workers and says who is there, and nothing more is believed of it. Which worker has which video,
how often it may be lost, and whether anything goes on at all is decided here (`engine`), and what became of a video is
read from the disk. The layer is the only one that imports Dask: `connection`, `batch`, `jobs` and `security` do, when
needed.
"""
