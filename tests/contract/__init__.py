"""The contract against its schemas, its past versions, and the real servers."""
