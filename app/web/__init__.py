"""The pages that people look at: server-rendered, one style sheet, no script needed (docs/howto/page.md).

Each page answers one question. Pages call the same functions as the routes of the API, and never the API itself.
"""
