"""The report page, and comparisons of trainings."""
