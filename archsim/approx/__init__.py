"""Approximation as data: knobs, their levels, and settings (knob -> level per layer)."""

from archsim.approx.knob import Knob, LayerSetting, Level, LevelTable, Setting

__all__ = ["Knob", "LayerSetting", "Level", "LevelTable", "Setting"]
