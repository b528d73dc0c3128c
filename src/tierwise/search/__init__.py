"""Searching: spaces as arrays, what is on the Pareto front, and planners. ``search/<goal>.py`` plans for one goal."""
