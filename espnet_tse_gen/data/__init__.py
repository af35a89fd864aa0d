"""Data of the recipes: Libri2Mix and the mini corpus, enrolment, level convention, checks, and the training preprocessor."""
