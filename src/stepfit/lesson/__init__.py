"""The lesson: page, live lab, and the server that brings both."""
