"""Recipes and the trainer that runs them."""

from cka_probe.lab.training.recipe import Recipe as Recipe
from cka_probe.lab.training.recipe import Stage as Stage
from cka_probe.lab.training.recipe import bundled as bundled
from cka_probe.lab.training.recipe import read_recipe as read_recipe
from cka_probe.lab.training.run import run_recipe as run_recipe
