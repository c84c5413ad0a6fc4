"""How good a prediction is: the errors that the papers' tables show."""
