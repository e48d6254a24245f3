"""`test --faults`: the tests' requests while something goes wrong, and what their clients see."""
