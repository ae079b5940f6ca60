-- A deleted stream stays as a tombstone, but not longer than its tenant.
grant delete on streams to keelplane_app;
