"""The page that ends an experiment: what is collected, plain rows of its tables, figures, montages, and a template.

Start reading at `collect.py`; `sections.py` fills `report.html.j2` in.
"""
