"""Step kinds, by family: what is done with rows between inputs and outputs."""
