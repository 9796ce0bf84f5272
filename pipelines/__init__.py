"""Wiring of the stages: one page each, no logic."""
