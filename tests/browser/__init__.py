"""Tests in a real browser; a package, so that its modules may share names with those beside it."""
