-- Ended jobs may move into a history in another store. Until then nobody else moves the job, and no erasure removes it: it could
-- still come to be there.
alter table jobs add column moving_until timestamptz;
