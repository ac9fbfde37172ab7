"""Pages that need nothing beside themselves: volumes in NiiVue's viewer, figures, tables.

Physics, io, drawing and eval may be imported; nothing here knows what a run is. Start reading at `viewer.py`.
NiiVue (BSD-2-Clause, `niivue.LICENSE`) lies here as its authors publish it; `make niivue` fetches it anew.
"""
