"""SCM connector: what an ERP did, from its outbox, a webhook or a file, to the topics."""
