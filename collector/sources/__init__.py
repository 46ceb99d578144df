"""The built-in sources, one module or package each; :mod:`collector.registry` lists them."""
