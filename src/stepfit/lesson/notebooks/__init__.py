"""The three notebooks: a master each, and the exercise and solution notebooks made from it."""
