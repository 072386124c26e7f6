"""Records and rows, not stock: transport, transaction, recovery, store. It is given `decide`."""
