-- The outbox of an ERP, read by `holdfast connector run --source postgres://...`.
--
-- Whoever changes an order writes a row here in the same transaction, so that neither can be
-- without the other. `body` is the change in the ERP's own words; the connector's mapping turns
-- it into Holdfast's. Rows are told on in the order of `id`.
--
-- A row with a lower id may become visible after one with a higher id. The connector never passes
-- such a gap: it goes on to an id only when every transaction that was open when it saw that id
-- has ended. For that a transaction's number must be taken before its id, which the trigger does;
-- and the sequence must not be cached by sessions.
--
-- The connector's role needs SELECT on the table and its sequence, and DELETE on the table where
-- it is told to tidy up (HOLDFAST_CONNECTOR_KEEP_DAYS). The notification makes it quick; without
-- that line it looks twice a second.

CREATE SEQUENCE IF NOT EXISTS holdfast_outbox_id CACHE 1;

CREATE TABLE IF NOT EXISTS holdfast_outbox (
    id         bigint PRIMARY KEY,
    txid       xid8 NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    body       jsonb NOT NULL
);

CREATE OR REPLACE FUNCTION holdfast_outbox_number() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.txid := pg_current_xact_id();
    NEW.id := nextval('holdfast_outbox_id');
    PERFORM pg_notify('holdfast_outbox', '');
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER holdfast_outbox_number BEFORE INSERT ON holdfast_outbox
    FOR EACH ROW EXECUTE FUNCTION holdfast_outbox_number();
