-- Which records of a collection have a word, by an inverted index. Row-level security keeps the daemon's role from using one, for
-- the operators of inverted indexes are not leakproof; so a function with the owner's rights asks it, for the transaction's tenant
-- only, and answers places in the table. What lies there is read by the daemon's role, behind row-level security, as ever. Like
-- a collection's vector index it holds the records that are marked as indexed, so that a write never waits for it.

-- A number per word and collection, so that no collection's search walks through the words of others.
create function memory_tokens(collection bigint, words tsvector) returns bigint[]
language sql immutable strict parallel safe as
  'select array(select hashtextextended(lexeme, collection) from unnest(tsvector_to_array(words)) as w (lexeme))';
grant execute on function memory_tokens(bigint, tsvector) to keelplane_app;

-- Forced row-level security binds the owner, too. This lets the functions that run with its rights read.
do $$ begin
  execute format('create policy owner_reads on keelplane.memory_records for select to %I using (true)', current_user);
end $$;

-- Places of the indexed records that have any of the words, and of few more: different words may have the same number. The
-- conditions are written for no other index to fit them.
create function memory_word_places(collection bigint, lexemes text[]) returns setof tid
language plpgsql stable security definer set search_path = keelplane, public, pg_temp
set enable_seqscan = off set enable_indexscan = off set enable_tidscan = off as $$
declare
  tokens constant bigint[] := array(select hashtextextended(w.lexeme, collection) from unnest(lexemes) as w (lexeme));
begin
  return query select r.ctid from memory_records r
    where memory_tokens(r.collection_key, r.words) && tokens and r.indexed
      and r.collection_key + 0 = collection and r.tenant || '' = current_setting('keelplane.tenant', true);
end $$;
revoke all on function memory_word_places(bigint, text[]) from public;
grant execute on function memory_word_places(bigint, text[]) to keelplane_app;
