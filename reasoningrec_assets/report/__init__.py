"""The HTML page: what it shows is gathered from the lake's files, then rendered."""
