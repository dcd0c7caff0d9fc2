"""Workloads: networks, data sets, number formats, calibration and the dense reference. No hardware."""
