"""What the device keeps on disk: journals and the state of deployments, in LMDB."""
