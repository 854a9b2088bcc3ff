-- What a client said of its Call, and why an attempt's target was tried: a JSON object each, NULL where there is nothing.
ALTER TABLE ledger ADD COLUMN metadata TEXT;
ALTER TABLE ledger ADD COLUMN notes TEXT;
