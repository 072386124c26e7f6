-- A small ERP: sales order lines that go from creation to invoice. Apply outbox.sql first.
--
-- Every change of a line writes the outbox, by trigger: no code path of the ERP can forget it. The
-- body holds the line as it is and, under "previous", as it was; preset `sample` maps it.
--
--   select erp_create('SO-1', '1', 'usmf', 'D0002', '1', '11', 'red', 'small', 5);
--   select erp_reserve('SO-1', '1');   select erp_pick('SO-1', '1');
--   select erp_pack('SO-1', '1');      select erp_invoice('SO-1', '1');
--   select erp_cancel('SO-1', '1');

CREATE TABLE IF NOT EXISTS erp_order_line (
    order_id       text NOT NULL,
    line_id        text NOT NULL,
    company        text NOT NULL,
    product        text NOT NULL,
    site           text NOT NULL,
    warehouse      text NOT NULL,
    color          text,
    size           text,
    quantity       numeric(18, 6) NOT NULL CHECK (quantity > 0),
    status         text NOT NULL DEFAULT 'created' CHECK (
        status IN ('created', 'reserved', 'picked', 'packed', 'invoiced', 'cancelled')),
    reservation_id text,
    hold_id        text,
    revision       bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (order_id, line_id)
);

CREATE OR REPLACE FUNCTION erp_line_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER erp_line_revision BEFORE UPDATE ON erp_order_line
    FOR EACH ROW EXECUTE FUNCTION erp_line_revision();

CREATE OR REPLACE FUNCTION erp_line_tell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    line erp_order_line := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    body jsonb := to_jsonb(line);
BEGIN
    IF TG_OP = 'DELETE' THEN
        body := body || jsonb_build_object('status', 'deleted', 'revision', line.revision + 1);
    END IF;
    body := body || jsonb_build_object(
        'event_id', line.order_id || '/' || line.line_id || '/' || (body ->> 'revision'),
        'transaction_id', line.order_id || '/' || line.line_id);
    IF TG_OP <> 'INSERT' THEN
        body := body || jsonb_build_object('previous', to_jsonb(OLD));
    END IF;
    INSERT INTO holdfast_outbox (body) VALUES (body);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER erp_line_tell AFTER INSERT OR UPDATE OR DELETE ON erp_order_line
    FOR EACH ROW EXECUTE FUNCTION erp_line_tell();

CREATE OR REPLACE FUNCTION erp_create(
    order_id text, line_id text, company text, product text, site text, warehouse text,
    color text, size text, quantity numeric, hold_id text DEFAULT NULL
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO erp_order_line
        (order_id, line_id, company, product, site, warehouse, color, size, quantity, hold_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
$$;

CREATE OR REPLACE FUNCTION erp_move(
    which_order text, which_line text, reached text, VARIADIC allowed text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE erp_order_line SET status = reached
     WHERE order_id = which_order AND line_id = which_line AND status = ANY (allowed);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'line %/% cannot become %', which_order, which_line, reached;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION erp_reserve(order_id text, line_id text) RETURNS void LANGUAGE sql AS
    $$ SELECT erp_move($1, $2, 'reserved', 'created') $$;
CREATE OR REPLACE FUNCTION erp_pick(order_id text, line_id text) RETURNS void LANGUAGE sql AS
    $$ SELECT erp_move($1, $2, 'picked', 'created', 'reserved') $$;
CREATE OR REPLACE FUNCTION erp_pack(order_id text, line_id text) RETURNS void LANGUAGE sql AS
    $$ SELECT erp_move($1, $2, 'packed', 'picked') $$;
CREATE OR REPLACE FUNCTION erp_invoice(order_id text, line_id text) RETURNS void LANGUAGE sql AS
    $$ SELECT erp_move($1, $2, 'invoiced', 'packed') $$;
CREATE OR REPLACE FUNCTION erp_cancel(order_id text, line_id text) RETURNS void LANGUAGE sql AS
    $$ SELECT erp_move($1, $2, 'cancelled', 'created', 'reserved', 'picked') $$;
