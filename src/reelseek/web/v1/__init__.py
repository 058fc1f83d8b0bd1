"""The interface for programs, `/v1`: one router a file, each over the same `Service`."""
