"""Commands beside the library: the stages' runner, pages, data, weights, sweeps."""
