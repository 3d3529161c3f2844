-- Version 9: the chains that the platform refused carry a checksum too: nothing is ever sealed on one of them again.
ALTER TABLE refused_chains ADD COLUMN sum INTEGER;
