"""Scores of extracted speech and what is made of them: per-item figures, intervals, ``RESULTS.md`` and the report page.

ESPnet's ``espnet2.bin.enh_scoring`` is called for the measures that it has; this package adds the ones that generative
extraction needs (delay-aligned SI-SDR, speaker similarity and confusion, DNSMOS), keeps one CSV row per item, and makes
every table from that file. It imports nothing of the model.
"""
