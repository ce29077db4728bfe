"""Engine with Milvus: a server of its own, or a cluster, for more vectors than one machine holds."""
