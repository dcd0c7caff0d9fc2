"""Searching settings: methods named after their algorithms see a problem's quality, MACs and cost, never a machine."""
