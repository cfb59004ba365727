"""Tables: the rows of stored report files in PostgreSQL, what is known of them, how they differ, whether they agree.

`reading` turns bytes into checked rows, `loading` puts one file's rows into its table (in a child process),
`leadership` decides which rule's rows the plain views show, `checks` compares what must agree.
"""
