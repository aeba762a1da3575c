"""The page: lesson.md and what makes one self-contained index.html of it."""
