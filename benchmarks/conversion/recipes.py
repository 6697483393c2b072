"""The list of the 30 ONNX files of files.py, which recipes_classical.py and recipes_networks.py fill: for each a
function that trains or draws a small model and exports it.

A recipe gets the path to write, and returns inputs for the finished model by name: ROWS fresh rows in the ranges of the
training data, with missing values and unknown categories where the model is meant to take them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

Inputs = dict[str, np.ndarray]
Recipe = Callable[[Path], Inputs]

ROWS = 256
RECIPES: dict[str, Recipe] = {}


def recipe(name: str) -> Callable[[Recipe], Recipe]:
    def enter(function: Recipe) -> Recipe:
        RECIPES[name] = function
        return function

    return enter
