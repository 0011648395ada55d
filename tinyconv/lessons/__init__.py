"""The lessons as notebooks that have been run, and what they share; ``tinyconv lessons``.

The notebooks beside this file are made from ``examples/lessons`` by ``make_notebooks.py`` there.
"""

from tinyconv.lessons.grading import EXERCISES, Exercise, grade, slopes
from tinyconv.lessons.notebooks import copy_to, titles

__all__ = ["EXERCISES", "Exercise", "copy_to", "grade", "slopes", "titles"]
