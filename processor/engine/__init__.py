"""Records and rows, not stock: what Kafka Streams calls exactly-once v2, under Faust.

The cycle, and what is true if the process dies at each step (KIP-447):

1. Fetch (`sources`): committed records of all partitions; `transport` makes a Faust event of them.
   Dying: nothing happened.
2. Decide (`cycle`): rows into an overlay, messages into outputs.
   Dying: nothing happened.
3. Commit (`transaction`): one Kafka transaction with changelog rows, outputs and source offsets.
   Dying before its end: the coordinator aborts it, the next owner reads the same records again.
   Dying after: the changelog has the rows, the next owner restores them.
4. Store (`store`): one RocksDB write batch, rows and changelog offset.
   Dying before: the local database is one batch behind and catches up on assignment.

A partition decides only after `restore` has brought its rows up to the changelog (`ownership`), and
the position it reads on from is the one in its watermark row, committed with those rows.
"""
