"""Two-stream fusion networks in space and time (Feichtenhofer, Pinz and Zisserman, CVPR 2016) on flowprep's stores."""
