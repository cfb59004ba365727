"""Tables: the rows of stored report files in PostgreSQL, the facts about them, how revisions differ, whether files
agree.

`reading` turns bytes into checked rows, `loading` puts one file's rows into its table (in a child process),
`leadership` decides which rule's rows the plain views show, `checks` compares numbers that must agree.
"""
