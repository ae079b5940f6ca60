-- Where the daemon's login owns the table it drops indexes without holding anybody up; where it does not, this does it, and gives
-- way to whoever uses the table at that moment.
create function memory_drop_orphan(collection bigint) returns boolean
language plpgsql security definer set search_path = keelplane, public, pg_temp set lock_timeout = '250ms' as $$
begin
  if current_setting('keelplane.tenant', true) is distinct from '*'
    or exists (select from memory_collections where key = collection and index_state <> 'EXACT') then
    return false;
  end if;
  execute format('drop index if exists memory_ann_%s', collection);
  return true;
end $$;
revoke all on function memory_drop_orphan(bigint) from public;
grant execute on function memory_drop_orphan(bigint) to keelplane_app;
