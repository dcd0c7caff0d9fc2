"""Approximation as data: knobs, their levels, and settings (knob -> level per layer)."""

from archsim.approx.knob import Knob, LayerSetting, Level, LevelTable, Setting
from archsim.approx.levels import read_levels

__all__ = ["Knob", "LayerSetting", "Level", "LevelTable", "Setting", "read_levels"]
