"""`verify`: everything in a store against all that is known of it, and the repair of what is found.

What a store must be follows from its settings, its list and the record of each video, and most of that it says twice:
in `.flowprep`, and in the files at its top. Each record carries its own checksum, and `SHA256SUMS` those of the files
at the top, so that of two which disagree one is proven. From those, whatever else there is can be made again.
"""

from flowprep.verify.check import verify
from flowprep.verify.findings import Finding, Remedy, Report
from flowprep.verify.repair import Mended, repair

__all__ = ["Finding", "Mended", "Remedy", "Report", "repair", "verify"]
