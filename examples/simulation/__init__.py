"""Scripts that write the examples' simulated recordings; none of them is needed to run the examples."""
