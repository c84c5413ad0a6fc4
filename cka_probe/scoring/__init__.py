"""What scoring any task's predictions needs, and the scoring of those that are labels."""
