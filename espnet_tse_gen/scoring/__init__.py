"""Scores of extracted speech and what is made of them: per-item figures, intervals, ``RESULTS.md`` and the report page.

ESPnet's ``espnet2.bin.enh_scoring`` gives the measures that it has; every table is made from one CSV row per item. Nothing of
a model is imported. Files, options and packages that cannot be used raise :class:`UserError`.
"""
