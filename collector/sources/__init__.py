"""The built-in sources, a module each; :mod:`collector.registry` names them all."""
