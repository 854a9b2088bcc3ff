-- What only some answers count (sound, pictures, searches, the tier), as a JSON object; NULL where there is nothing of it.
ALTER TABLE ledger ADD COLUMN usage_more TEXT;
