"""From a float model and samples to a quant table: calibration, planning, and what the result lost."""
