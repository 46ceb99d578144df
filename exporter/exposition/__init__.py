"""The latest samples as text.

format has names and escapes, template one row a series, conflicts decides between metrics of one name; latest is the
page.
"""
