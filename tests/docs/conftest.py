from tests.rings import namespace as namespace
