"""The entry of each process; here and nowhere else the parts are put together."""
