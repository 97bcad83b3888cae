"""How steep a network can be: exact Lipschitz constants from the Jacobians of its activation cells."""
