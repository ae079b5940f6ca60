-- outside of a transaction
-- So that daemons of the version before go on writing while it is built. What an attempt that was cut short left goes first.

drop index concurrently if exists keelplane.memory_records_words;
create index concurrently memory_records_words on keelplane.memory_records
  using gin (keelplane.memory_tokens(collection_key, words)) with (gin_pending_list_limit = 1024)
  where indexed;
