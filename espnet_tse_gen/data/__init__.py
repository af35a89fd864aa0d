"""Data of the recipes: Libri2Mix, enrolment, level convention, checks, and the training preprocessor."""
