-- The peer `postgres`: conditional update and reservation record in one transaction, idempotent by
-- request id. Codes as in schemas/codes.py; quantities are pieces.
CREATE TABLE stock (
    leaf integer PRIMARY KEY,
    supply bigint NOT NULL,
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved <= supply)
) WITH (fillfactor = 50);  -- Room for heap-only updates: the counter is updated again and again.

CREATE TABLE reservation (
    request_id text PRIMARY KEY,
    leaf integer NOT NULL,
    quantity bigint NOT NULL,
    code smallint NOT NULL,
    available bigint NOT NULL
);

-- The load of the batched variant, already in the database: its client only names a range.
CREATE TABLE ask (
    number integer PRIMARY KEY,
    request_id text NOT NULL,
    leaf integer NOT NULL,
    quantity bigint NOT NULL
);

-- One request: the record first (it is what makes the id count once), then the counter.
CREATE FUNCTION reserve(asked_id text, asked_leaf integer, asked bigint) RETURNS smallint AS $$
DECLARE
    answered smallint;
    left_over bigint;
BEGIN
    SELECT code INTO answered FROM reservation WHERE request_id = asked_id;
    IF FOUND THEN
        RETURN answered;
    END IF;
    UPDATE stock SET reserved = reserved + asked
        WHERE leaf = asked_leaf AND reserved + asked <= supply
        RETURNING supply - reserved INTO left_over;
    IF FOUND THEN
        answered := 1;
    ELSE
        answered := 60;
        SELECT supply - reserved INTO left_over FROM stock WHERE leaf = asked_leaf;
    END IF;
    INSERT INTO reservation VALUES
        (asked_id, asked_leaf, CASE answered WHEN 1 THEN asked ELSE 0 END, answered, left_over);
    RETURN answered;
END
$$ LANGUAGE plpgsql;

-- A set of requests in one transaction: running totals decide each in order, as long as all before
-- it on the same leaf fit (the loads that are run against it have enough stock for all).
CREATE FUNCTION reserve_batch(first_number integer, numbers integer) RETURNS bigint AS $$
DECLARE
    answered bigint;
BEGIN
    WITH asked AS (
        SELECT a.request_id, a.leaf, a.quantity,
               sum(a.quantity) OVER (PARTITION BY a.leaf ORDER BY a.number) AS running
        FROM ask a
        WHERE a.number >= first_number AND a.number < first_number + numbers
          AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.request_id = a.request_id)
    ), locked AS (
        SELECT leaf, supply - reserved AS free FROM stock
        WHERE leaf IN (SELECT leaf FROM asked) ORDER BY leaf FOR UPDATE
    ), decided AS (
        SELECT a.*, a.running <= l.free AS fits, l.free - a.running AS left_over
        FROM asked a JOIN locked l USING (leaf)
    ), counted AS (
        UPDATE stock s SET reserved = reserved + d.quantity
        FROM (SELECT leaf, sum(quantity) AS quantity FROM decided WHERE fits GROUP BY leaf) d
        WHERE s.leaf = d.leaf
    )
    INSERT INTO reservation
        SELECT request_id, leaf, CASE WHEN fits THEN quantity ELSE 0 END,
               CASE WHEN fits THEN 1 ELSE 60 END, left_over
        FROM decided;
    GET DIAGNOSTICS answered = ROW_COUNT;
    RETURN answered;
END
$$ LANGUAGE plpgsql;
