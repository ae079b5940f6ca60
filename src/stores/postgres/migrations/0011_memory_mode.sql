-- Where a collection's records live: here, here with a copy in the vector store, or in the vector store alone.
alter table memory_collections add column storage_mode text not null default 'LOCAL'
  check (storage_mode in ('LOCAL', 'MIRRORED', 'DIRECT'));
