"""The commands `flowprep ...`: options generated from the settings' fields, no logic of their own."""
